//! Which proxy stands between this machine and a server: the one that was named, or what the variables say that curl
//! documents.
//!
//! `http_proxy`, `https_proxy` and, where those say nothing, `all_proxy` name a proxy; `no_proxy` names who is reached
//! without. Each is looked for in lower case first, then in upper case; one that is empty counts as unset. In a CGI
//! program `HTTP_PROXY` is a header that a stranger has sent, and is left alone.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::origin::Origin;
use crate::model::retry::{Fault, FaultKind};
use crate::model::settings::Proxy;

/// The port of a proxy that names none.
const DEFAULT_PORT: u16 = 80;
/// Kinds of proxies that are known, and not spoken to.
const OTHER_KINDS: [&str; 5] = ["https", "socks4", "socks4a", "socks5", "socks5h"];

/// A proxy that is spoken to over plain HTTP.
#[derive(Clone)]
pub(super) struct HttpProxy {
    pub host: String,
    pub port: u16,
    /// User and password, if its URL has them.
    pub authorization: Option<HeaderValue>,
}

/// Which proxy stands between this machine and a server. One that was named and cannot be used is never gone around.
#[derive(Default)]
pub struct Proxies {
    http: Option<Result<HttpProxy, Fault>>,
    https: Option<Result<HttpProxy, Fault>>,
    exceptions: Vec<Exception>,
}

impl Proxies {
    pub fn new(proxy: &Proxy) -> Self {
        match proxy {
            Proxy::Environment => Self::of_variables(|name| std::env::var_os(name)),
            Proxy::Url(url) => {
                let proxy = Some(HttpProxy::parse(url));
                Self { http: proxy.clone(), https: proxy, exceptions: Vec::new() }
            }
            Proxy::None => Self::default(),
        }
    }

    fn of_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        let http =
            if variable("REQUEST_METHOD").is_some() { &["http_proxy"][..] } else { &["http_proxy", "HTTP_PROXY"] };
        let all = first(&["all_proxy", "ALL_PROXY"]);
        let proxy = |named: Option<OsString>| {
            let url = named.or_else(|| all.clone())?;
            Some(url.to_str().map_or_else(|| Err(no_proxy_url()), HttpProxy::parse))
        };
        let list = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
        Self {
            http: proxy(first(http)),
            https: proxy(first(&["https_proxy", "HTTPS_PROXY"])),
            exceptions: exceptions(&list.to_string_lossy()),
        }
    }

    /// Host and port of the proxy for requests to `uri`; `None` if they go straight.
    ///
    /// # Errors
    /// A fault for a proxy that cannot be used. It does not show the URL, which may hold a password.
    pub fn address(&self, uri: &Uri) -> Result<Option<(String, u16)>, Fault> {
        let Some(origin) = Origin::of(uri) else { return Ok(None) };
        Ok(self.due(&origin)?.map(|proxy| (proxy.host.clone(), proxy.port)))
    }

    pub(super) fn due(&self, origin: &Origin) -> Result<Option<&HttpProxy>, Fault> {
        let named = if origin.https { &self.https } else { &self.http };
        match named {
            Some(proxy) if !self.exceptions.iter().any(|exception| exception.covers(origin)) => {
                proxy.as_ref().map(Some).map_err(Clone::clone)
            }
            _ => Ok(None),
        }
    }
}

impl HttpProxy {
    /// Reads `[http://][USER[:PASSWORD]@]HOST[:PORT][/…]`, user and password percent-encoded where they must be. What
    /// stands before the last `@` is theirs, so that none is cut short.
    fn parse(url: &str) -> Result<Self, Fault> {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        check_scheme(scheme)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if path.contains('@') {
            let why = "the proxy has no URL that works: write / ? # in its user and password as %2F %3F %23";
            return Err(Fault::new(FaultKind::Refused, why));
        }
        let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (host, port) = host_and_port(address).filter(|(_, port)| *port != Some(0)).ok_or_else(no_proxy_url)?;
        let authorization = (!user.is_empty()).then(|| basic(user));
        Ok(Self { host: host.to_owned(), port: port.unwrap_or(DEFAULT_PORT), authorization })
    }
}

fn check_scheme(scheme: &str) -> Result<(), Fault> {
    if scheme.eq_ignore_ascii_case("http") {
        return Ok(());
    }
    match OTHER_KINDS.iter().find(|kind| scheme.eq_ignore_ascii_case(kind)) {
        Some(kind) => Err(Fault::new(
            FaultKind::Refused,
            format!(
                "proxies of the kind {kind}:// are not supported: name an http:// proxy, which is asked for a tunnel where \
                 TLS is spoken, or name the store in NO_PROXY if it can be reached without"
            ),
        )),
        None => Err(no_proxy_url()),
    }
}

fn no_proxy_url() -> Fault {
    Fault::new(FaultKind::Refused, "the proxy has no URL that works: write http://host:port")
}

/// The header for `USER[:PASSWORD]`.
fn basic(user: &str) -> HeaderValue {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let bytes = percent_decode_str(user).chain([b':']).chain(percent_decode_str(password));
    let encoded = Zeroizing::new(STANDARD.encode(Zeroizing::new(bytes.collect::<Vec<_>>())));
    let mut value = HeaderValue::from_str(&format!("Basic {}", *encoded)).expect("base64 is a header value");
    value.set_sensitive(true);
    value
}

/// Host, without the brackets of IPv6, and port of `HOST[:PORT]`, if that is what it is.
fn host_and_port(address: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok())?,
        None => address.split_at(address.find(':').unwrap_or(address.len())),
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(is_host) {
        return None;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some((host, Some(digits.parse().ok()?))),
        _ => None,
    }
}

/// Who is reached without a proxy: one word of `no_proxy`.
struct Exception {
    hosts: Hosts,
    /// On this port only.
    port: Option<u16>,
}

enum Hosts {
    All,
    /// Addresses that begin with so many bits of this one.
    Network(IpAddr, u32),
    /// A name, and those below it.
    Domain(String),
}

/// Reads the words of a list, which commas or blanks part. What is no host stands for none.
fn exceptions(list: &str) -> Vec<Exception> {
    list.split([',', ' ', '\t']).filter_map(Exception::parse).collect()
}

impl Exception {
    /// Reads `*`, an address, a network such as `10.0.0.0/8`, or a name; names and addresses may have a port.
    fn parse(word: &str) -> Option<Self> {
        if word == "*" {
            return Some(Self { hosts: Hosts::All, port: None });
        }
        let (host, bits) = word.split_once('/').map_or((word, None), |(host, bits)| (host, Some(bits)));
        let (host, port) = match host.parse::<Ipv6Addr>() {
            Ok(_) => (host, None),
            Err(_) => host_and_port(host)?,
        };
        let hosts = match (host.parse::<IpAddr>(), bits) {
            (Ok(address), None) => Hosts::Network(address, address_bits(address)),
            (Ok(address), Some(bits)) => {
                Hosts::Network(address, bits.parse().ok().filter(|bits| *bits <= address_bits(address))?)
            }
            (Err(_), None) => Hosts::Domain(bare_name(host.strip_prefix('.').unwrap_or(host))),
            (Err(_), Some(_)) => return None,
        };
        Some(Self { hosts, port })
    }

    fn covers(&self, origin: &Origin) -> bool {
        if self.port.is_some_and(|port| port != origin.port) {
            return false;
        }
        match (&self.hosts, origin.host.parse()) {
            (Hosts::All, _) => true,
            (Hosts::Network(network, bits), Ok(address)) => {
                equal_bits(*network, address).is_some_and(|equal| equal >= *bits)
            }
            (Hosts::Domain(domain), Err(_)) => {
                let name = bare_name(&origin.host);
                name.strip_suffix(domain.as_str()).is_some_and(|left| left.is_empty() || left.ends_with('.'))
            }
            _ => false,
        }
    }
}

/// A name in lower case and without the dot of the root.
fn bare_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn address_bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { u32::BITS } else { u128::BITS }
}

/// With how many bits both begin; `None` if they are of two families.
fn equal_bits(a: IpAddr, b: IpAddr) -> Option<u32> {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Some((a.to_bits() ^ b.to_bits()).leading_zeros()),
        (IpAddr::V6(a), IpAddr::V6(b)) => Some((a.to_bits() ^ b.to_bits()).leading_zeros()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a request to `uri`: `direct`, `refused`, or the address of the proxy.
    fn way(variables: &[(&str, &str)], uri: &str) -> String {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        match Proxies::of_variables(find).address(&uri.parse().unwrap()) {
            Ok(None) => "direct".into(),
            Ok(Some((host, port))) => format!("{host}:{port}"),
            Err(_) => "refused".into(),
        }
    }

    #[test]
    fn variables_are_read_as_curl_documents_them() {
        let (http, https) = ("http://store.example.com/", "https://store.example.com/");
        for (variables, uri, wanted) in [
            (&[][..], http, "direct"),
            (&[("http_proxy", "http://p:1")], http, "p:1"),
            (&[("http_proxy", "http://p:1")], https, "direct"),
            (&[("HTTP_PROXY", "http://p:1")], http, "p:1"),
            (&[("HTTPS_PROXY", "http://p:1")], https, "p:1"),
            (&[("http_proxy", "http://low:1"), ("HTTP_PROXY", "http://up:1")], http, "low:1"),
            (&[("http_proxy", ""), ("HTTP_PROXY", "http://up:1")], http, "up:1"),
            (&[("https_proxy", "http://low:1"), ("HTTPS_PROXY", "")], https, "low:1"),
            (&[("http_proxy", ""), ("HTTP_PROXY", "")], http, "direct"),
            (&[("all_proxy", "http://a:1")], http, "a:1"),
            (&[("ALL_PROXY", "http://a:1")], https, "a:1"),
            (&[("ALL_PROXY", "http://a:1"), ("all_proxy", "")], http, "a:1"),
            (&[("ALL_PROXY", "http://a:1"), ("HTTPS_PROXY", "http://s:1")], https, "s:1"),
            (&[("ALL_PROXY", "http://a:1"), ("HTTPS_PROXY", "")], https, "a:1"),
            (&[("HTTP_PROXY", "http://p:1"), ("REQUEST_METHOD", "GET")], http, "direct"),
            (&[("http_proxy", "http://p:1"), ("REQUEST_METHOD", "GET")], http, "p:1"),
            (&[("HTTPS_PROXY", "http://p:1"), ("REQUEST_METHOD", "GET")], https, "p:1"),
            (&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", ""), ("no_proxy", "example.com")], http, "direct"),
            (&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", "example.com"), ("no_proxy", "other.com")], http, "p:1"),
            (&[("ALL_PROXY", "socks5://p:1")], http, "refused"),
            (&[("ALL_PROXY", "socks5://p:1"), ("http_proxy", "http://p:1")], http, "p:1"),
            (&[("ALL_PROXY", "socks5://p:1"), ("NO_PROXY", "*")], http, "direct"),
        ] {
            assert_eq!(way(variables, uri), wanted, "{variables:?} {uri}");
        }
    }

    #[test]
    fn a_variable_that_is_no_text_is_not_taken_for_unset() {
        use std::os::unix::ffi::OsStringExt;
        let find = |name: &str| (name == "http_proxy").then(|| OsString::from_vec(b"http://\xff:1".to_vec()));
        assert!(Proxies::of_variables(find).address(&Uri::from_static("http://store/")).is_err());
    }

    #[test]
    fn hosts_of_no_proxy_are_reached_without() {
        let goes_straight = |list, host| {
            let variables = [("ALL_PROXY", "http://p:1"), ("NO_PROXY", list)];
            way(&variables, &format!("http://{host}/")) == "direct"
        };
        for (list, host) in [
            ("*", "store.example.com"),
            ("*", "127.0.0.1:9000"),
            ("*", "[::1]:9000"),
            (" * ", "10.1.2.3"),
            ("a.com,*", "10.1.2.3"),
            ("example.com", "example.com"),
            ("example.com", "EXAMPLE.com"),
            ("Example.COM", "store.example.com:81"),
            (".example.com", "store.example.com"),
            (".example.com", "example.com"),
            ("example.com.", "example.com"),
            ("example.com", "store.example.com."),
            ("a.com,,  ,\tb.com , example.com,", "example.com"),
            ("a.com example.com", "example.com"),
            ("127.0.0.1", "127.0.0.1:9000"),
            ("10.0.0.0/8", "10.255.0.1"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("0.0.0.0/0", "10.1.2.3"),
            ("::1", "[::1]:9000"),
            ("[::1]", "[::1]"),
            ("0:0:0:0:0:0:0:1", "[::1]"),
            ("2001:db8::/32", "[2001:db8:1::7]"),
            ("localhost:9000", "localhost:9000"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:9000", "[::1]:9000"),
        ] {
            assert!(goes_straight(list, host), "{list:?} {host}");
        }
        for (list, host) in [
            ("example.com", "notexample.com"),
            ("example.com", "example.com.evil.org"),
            (".example.com", "notexample.com"),
            ("*.example.com", "store.example.com"),
            ("store.example.com", "example.com"),
            (".0.0.1", "127.0.0.1"),
            ("1", "127.0.0.1"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/33", "10.0.0.1"),
            ("10.0.0.0/x", "10.0.0.1"),
            ("example.com/8", "example.com"),
            ("0.0.0.0/0", "[::1]"),
            ("::/0", "127.0.0.1"),
            ("localhost:9000", "localhost:9001"),
            ("[::1", "[::1]"),
            (".", "example.com"),
            (",", "example.com"),
        ] {
            assert!(!goes_straight(list, host), "{list:?} {host}");
        }
    }

    #[test]
    fn user_and_password_are_sent_whole_or_not_at_all() {
        let sent = |url: &str| {
            let proxy = HttpProxy::parse(url).ok()?;
            let value =
                proxy.authorization.map(|value| value.to_str().unwrap().trim_start_matches("Basic ").to_owned());
            let clear = value.map(|value| String::from_utf8(STANDARD.decode(value).unwrap()).unwrap());
            Some(format!("{} {}:{}", clear.unwrap_or_default(), proxy.host, proxy.port))
        };
        for (url, wanted) in [
            ("http://h:1", " h:1"),
            ("h:1", " h:1"),
            ("h", " h:80"),
            (" HTTP://h:1/ ", " h:1"),
            ("http://h:1/path?x", " h:1"),
            ("http://[::1]:1", " ::1:1"),
            ("http://u@h:1", "u: h:1"),
            ("http://u:@h:1", "u: h:1"),
            ("http://@h:1", " h:1"),
            ("u:p@h:1", "u:p h:1"),
            ("http://u:p@ss@h:1", "u:p@ss h:1"),
            ("http://u@corp:p@h:1", "u@corp:p h:1"),
            ("http://u:p:q@h:1", "u:p:q h:1"),
            ("http://u%40corp:p%2Fq%23%25@h:1", "u@corp:p/q#% h:1"),
            ("http://u:%C3%A9@h:1", "u:é h:1"),
            ("http://u:p+q@h:1", "u:p+q h:1"),
        ] {
            assert_eq!(sent(url).as_deref(), Some(wanted), "{url}");
        }
        for url in [
            "",
            " ",
            "/",
            ":1",
            "http://",
            "http:/h",
            "http://h:",
            "http://h:x",
            "http://h:+1",
            "http://h:0",
            "http://h:65536",
            "http://[::1",
            "http://[]:1",
            "http://[h]:1",
            "http://[::1]1",
            "http://a b:1",
            "http://u:p/q@h:1",
            "http://u:1?q@h:1",
            "http://u:1#q@h:1",
            "ftp://h:1",
            "https://h:1",
            "socks5://h:1",
        ] {
            assert_eq!(sent(url), None, "{url}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_and_shows_nothing_of_the_url() {
        for (url, wanted) in [
            ("socks5://user:canary@h:1", "kind socks5:// are not supported: name an http:// proxy"),
            ("https://user:canary@h:1", "kind https:// are not supported"),
            ("canary://h:1", "write http://host:port"),
            ("http://user:canary/@h:1", "%2F"),
            ("http://user:canary", "write http://host:port"),
        ] {
            let said = HttpProxy::parse(url).err().unwrap().to_string();
            assert!(said.contains(wanted) && !said.contains("canary") && !said.contains("user:"), "{url}: {said}");
        }
    }
}
