//! Endpoints, regions, and the three ways to address a bucket (specification, sections 1.1 and 1.2).

use core::net::IpAddr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

use super::encode;
use crate::model::object::Key;
use crate::model::settings::{Addressing, ClientSettings, Signature};
use crate::store::Call;

const SUFFIX: &str = ".aliyuncs.com";

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
        let by_path = host.eq_ignore_ascii_case("localhost") || is_ip(host);
        let default = if by_path { Addressing::Path } else { Addressing::Virtual };
        let region = match &settings.region {
            Some(named) => region_named(named)?,
            None => region_of(host).unwrap_or_default(),
        };
        if region.is_empty() && settings.signature == Signature::V4 {
            return Err(AddressError::NoRegion(host.to_owned()));
        }
        let product = if region.starts_with("cb-") { "oss-cloudbox" } else { "oss" };
        let addressing = settings.addressing.unwrap_or(default);
        // The authority with a bucket in front must be one too.
        format!("bucket.{authority}")
            .parse::<Authority>()
            .ok()
            .or_else(|| authority.parse().ok())
            .ok_or_else(|| AddressError::Endpoint(settings.endpoint.clone()))?;
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

/// Scheme, and host with port, of what a user calls an endpoint. Scheme `https` if none is named; user names, paths,
/// queries and fragments are dropped.
fn clean(endpoint: &str) -> Result<(Scheme, String), AddressError> {
    let refused = || AddressError::Endpoint(endpoint.to_owned());
    let (scheme, rest) = match endpoint.trim().split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::HTTP, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::HTTPS, rest),
        Some(_) => return Err(refused()),
        None => (Scheme::HTTPS, endpoint.trim()),
    };
    let authority = without_path(rest);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host_of(authority).ok_or_else(refused)?;
    Ok((scheme, authority.to_owned()))
}

fn without_path(text: &str) -> &str {
    text.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The host of `[user@]host[:port]`, if it is one.
fn host_of(authority: &str) -> Option<&str> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(rest) = host.strip_prefix('[') {
        let (address, _) = rest.split_once(']')?;
        return is_ip(address).then_some(address);
    }
    let (host, port) = host.split_once(':').unwrap_or((host, ""));
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let fits = !host.is_empty() && host.bytes().all(legal) && (port.is_empty() || port.parse::<u16>().is_ok());
    fits.then_some(host)
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

/// The region that the name of an endpoint tells, with or without a bucket in front.
fn region_of(host: &str) -> Option<String> {
    let labels: Vec<_> = host.strip_suffix(SUFFIX)?.split('.').collect();
    let region = match labels.as_slice() {
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
