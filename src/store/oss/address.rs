//! Endpoints, regions, and the three ways to address a bucket (specification, sections 1.1 and 1.2).

use core::net::{IpAddr, Ipv6Addr};

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

use super::encode;
use crate::model::object::Key;
use crate::model::settings::{Addressing, ClientSettings, Signature};
use crate::store::Call;

const SUFFIX: &str = ".aliyuncs.com";
/// What the id of a cloud box begins with; it stands where a region would.
const CLOUD_BOX: &str = "cb-";
/// Longest name of a host, in bytes (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Why an endpoint cannot be used. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Write it as `oss-cn-hangzhou.aliyuncs.com` or as a URL.
    #[error("{0:?} is not an endpoint: write a host such as oss-cn-hangzhou.aliyuncs.com, or a URL")]
    Endpoint(String),
    /// Name the region.
    #[error("the endpoint {0} does not tell its region, which version 4 signatures need: set the region")]
    NoRegion(String),
    /// A region is made of `a-z`, `0-9` and `-`.
    #[error("{0:?} is not a region: write one such as cn-hangzhou")]
    Region(String),
}

/// Where an endpoint is, and how buckets are found there.
#[derive(Debug)]
pub struct Address {
    scheme: Scheme,
    /// Host and port.
    authority: String,
    addressing: Addressing,
    region: String,
    product: &'static str,
}

/// Region and product of a version 4 signature.
pub struct Scope<'a> {
    pub region: &'a str,
    pub product: &'a str,
}

impl Address {
    pub fn new(settings: &ClientSettings) -> Result<Self, AddressError> {
        let (scheme, authority) = clean(&settings.endpoint)?;
        let host = host_of(&authority).ok_or_else(|| AddressError::Endpoint(settings.endpoint.clone()))?;
        let addressing = match settings.addressing {
            None if host == "localhost" => Addressing::Path,
            // No label can stand in front of an IP address (specification, section 1.1).
            None | Some(Addressing::Virtual) if is_ip(host) => Addressing::Path,
            named => named.unwrap_or(Addressing::Virtual),
        };
        let region = match &settings.region {
            Some(named) => region_named(named)?,
            None => region_of(host).unwrap_or_default(),
        };
        if region.is_empty() && settings.signature == Signature::V4 {
            return Err(AddressError::NoRegion(host.to_owned()));
        }
        let product = if region.starts_with(CLOUD_BOX) { "oss-cloudbox" } else { "oss" };
        Ok(Self { scheme, authority, addressing, region, product })
    }

    /// `scheme://host[:port]`.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    pub fn scope(&self) -> Scope<'_> {
        Scope { region: &self.region, product: self.product }
    }

    /// The absolute URI of a call. Segments of the key are kept as they are: `//`, `.` and `..` too.
    pub fn uri(&self, call: &Call<'_>) -> Uri {
        let key = encode::path(call.key.map(Key::as_str).unwrap_or_default());
        let (authority, mut path) = match self.addressing {
            Addressing::Virtual => (format!("{}.{}", call.bucket, self.authority), format!("/{key}")),
            Addressing::Path => (self.authority.clone(), format!("/{}/{key}", call.bucket)),
            Addressing::Cname => (self.authority.clone(), format!("/{key}")),
        };
        for (i, (name, value)) in call.query.iter().enumerate() {
            path.push(if i == 0 { '?' } else { '&' });
            path.push_str(&encode::all(name));
            if !value.is_empty() {
                path.push('=');
                path.push_str(&encode::all(value));
            }
        }
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(Authority::try_from(authority).expect("host and bucket were checked"));
        parts.path_and_query = Some(PathAndQuery::try_from(path).expect("percent-encoded text is a path"));
        Uri::from_parts(parts).expect("scheme, authority and path are there")
    }
}

/// Scheme, and host with port, of what a user calls an endpoint, so that one endpoint has one name: scheme `https` if
/// none is named, host in lower case, no port where it is the scheme's own; user names, paths, queries and fragments
/// are dropped.
fn clean(endpoint: &str) -> Result<(Scheme, String), AddressError> {
    // What stands before `@` may be a password.
    let refused = || AddressError::Endpoint(endpoint.rsplit('@').next().unwrap_or_default().to_owned());
    let (scheme, rest) = match endpoint.trim().split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::HTTP, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::HTTPS, rest),
        Some(_) => return Err(refused()),
        None => (Scheme::HTTPS, endpoint.trim()),
    };
    let (host, port) = split(without_path(rest)).ok_or_else(refused)?;
    let host = host.to_ascii_lowercase();
    let own = if scheme == Scheme::HTTP { 80 } else { 443 };
    match port.filter(|port| *port != own) {
        Some(port) => Ok((scheme, format!("{host}:{port}"))),
        None => Ok((scheme, host)),
    }
}

fn without_path(text: &str) -> &str {
    text.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Host, with the brackets of IPv6, and port of `[user@]host[:port]`, if it is one.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let colon = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(colon);
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    is_host(host).then_some((host, port))
}

/// The host of `[user@]host[:port]`, without brackets, if it is one.
fn host_of(authority: &str) -> Option<&str> {
    split(authority).map(|(host, _)| host.trim_matches(['[', ']']))
}

fn is_host(host: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.bytes().all(legal),
    }
}

fn is_ip(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// A region as a user names it; OSS itself writes it with `oss-` in front.
fn region_named(named: &str) -> Result<String, AddressError> {
    let region = named.strip_prefix("oss-").unwrap_or(named);
    if is_region(region) { Ok(region.to_owned()) } else { Err(AddressError::Region(named.to_owned())) }
}

fn is_region(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The region that the name of an endpoint tells, with or without a bucket in front. That of a cloud box is its id.
fn region_of(host: &str) -> Option<String> {
    let labels: Vec<_> = host.strip_suffix(SUFFIX)?.split('.').collect();
    let region = match labels.as_slice() {
        [id, _, "oss-cloudbox" | "oss-cloudbox-control"] if id.starts_with(CLOUD_BOX) => id,
        [.., "oss-cloudbox" | "oss-cloudbox-control"] => return None,
        [.., region, "oss"] => region,
        [.., label] => {
            let region = label.strip_prefix("oss-")?;
            region.strip_suffix("-internal").unwrap_or(region)
        }
        [] => return None,
    };
    (is_region(region) && !region.starts_with("accelerate")).then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::model::object::Bucket;

    fn misc() -> Value {
        serde_json::from_str(include_str!("../../../tests/vectors/misc.json")).unwrap()
    }

    fn rows(value: &Value) -> impl Iterator<Item = (&Value, &Value)> {
        value["rows"].as_array().unwrap().iter().map(|row| (&row[0], &row[1]))
    }

    #[test]
    fn regions_are_read_from_endpoints_as_misc_json_says() {
        for (endpoint, region) in rows(&misc()["region_from_endpoint"]) {
            let (_, authority) = clean(endpoint.as_str().unwrap()).unwrap();
            let found = region_of(host_of(&authority).unwrap());
            assert_eq!(found.as_deref(), region.as_str(), "{endpoint}");
        }
    }

    #[test]
    fn endpoints_are_cleaned_and_hosts_checked_as_misc_json_says() {
        let misc = misc();
        for (endpoint, host) in rows(&misc["endpoint_clean"]) {
            assert_eq!(without_path(endpoint.as_str().unwrap()), host.as_str().unwrap());
        }
        for (authority, host) in rows(&misc["host_of_authority"]) {
            assert_eq!(host_of(authority.as_str().unwrap()), host.as_str(), "{authority}");
        }
        let list = |kind: &str| misc["host_validity"][kind].as_array().unwrap().clone();
        assert!(list("valid").iter().all(|host| host_of(host.as_str().unwrap()).is_some()));
        for host in list("invalid") {
            assert_eq!(host_of(host.as_str().unwrap()), None, "{host}");
        }
        let list = |kind: &str| misc["region_validity"][kind].as_array().unwrap().clone();
        assert!(list("valid").iter().all(|region| is_region(region.as_str().unwrap())));
        assert!(list("invalid").iter().all(|region| !is_region(region.as_str().unwrap())));
    }

    #[test]
    fn text_is_encoded_as_misc_json_says() {
        for row in misc()["url_encode"].as_array().unwrap() {
            let input = row["input"].as_str().unwrap();
            let output = if row["keep_slash"] == true { encode::path(input) } else { encode::all(input) };
            assert_eq!(output, row["output"].as_str().unwrap());
        }
    }

    fn uri(settings: ClientSettings, key: &str) -> String {
        let (bucket, key) = (Bucket::new("demo").unwrap(), Key::new(key).unwrap());
        let call = Call::new(http::Method::GET, &bucket, Some(&key)).query("uploads", "").query("a", "b/c");
        Address::new(&settings).unwrap().uri(&call).to_string()
    }

    #[test]
    fn the_bucket_stands_where_the_addressing_says() {
        let at = |endpoint: &str, addressing| {
            let region = Some("cn-hangzhou".into());
            uri(ClientSettings { addressing, region, ..ClientSettings::new(endpoint) }, "d//../%41")
        };
        let query = "?uploads&a=b%2Fc";
        assert_eq!(at("e.com", None), format!("https://demo.e.com/d//../%2541{query}"));
        assert_eq!(at("http://e.com:81/x", Some(Addressing::Path)), format!("http://e.com:81/demo/d//../%2541{query}"));
        assert_eq!(at("e.com", Some(Addressing::Cname)), format!("https://e.com/d//../%2541{query}"));
        assert_eq!(at("http://127.0.0.1:9000", None), format!("http://127.0.0.1:9000/demo/d//../%2541{query}"));
        assert_eq!(at("http://[::1]:9000", None), format!("http://[::1]:9000/demo/d//../%2541{query}"));
        assert_eq!(at("localhost:1", None), format!("https://localhost:1/demo/d//../%2541{query}"));
    }

    #[test]
    fn an_endpoint_that_tells_no_region_needs_one_for_version_4_alone() {
        let settings = ClientSettings::new("oss-accelerate.aliyuncs.com");
        assert!(matches!(Address::new(&settings), Err(AddressError::NoRegion(_))));
        assert!(Address::new(&ClientSettings { signature: Signature::V1, ..settings.clone() }).is_ok());
        let named = Address::new(&ClientSettings { region: Some("oss-cn-hangzhou".into()), ..settings }).unwrap();
        assert_eq!(named.scope().region, "cn-hangzhou");
    }

    proptest! {
        #[test]
        fn no_endpoint_and_no_key_makes_an_address_panic(endpoint in ".{0,40}", key in ".{1,40}") {
            let settings = ClientSettings { region: Some("r".into()), ..ClientSettings::new(endpoint) };
            if let (Ok(address), Ok(key)) = (Address::new(&settings), Key::new(key)) {
                let bucket = Bucket::new("demo").unwrap();
                address.uri(&Call::new(http::Method::GET, &bucket, Some(&key)));
            }
        }

        #[test]
        fn encoding_is_undone_by_decoding(text in ".{0,60}") {
            let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
            prop_assert_eq!(decoded(&encode::all(&text)), text.clone());
            prop_assert_eq!(decoded(&encode::path(&text)), text);
        }
    }
}
