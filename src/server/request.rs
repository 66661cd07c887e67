//! What a request addresses: bucket, key and query, decoded once.
//!
//! # Source
//! Addressing, names and percent-encoding: specification, section 1.

use std::net::IpAddr;

use http::{HeaderMap, Method, request::Parts};
use percent_encoding::percent_decode_str;

use super::errors::{Code, Failure};
use crate::model::object::Bucket;

/// Longest request target taken, in bytes: a key of 1023 encoded bytes plus a generous query.
const TARGET_MAX: usize = 16 << 10;
/// Most query parameters taken.
const QUERY_MAX: usize = 64;

/// A request after its address was understood; the body is apart.
pub(crate) struct Request {
    pub method: Method,
    pub headers: HeaderMap,
    /// `None` for the service itself.
    pub bucket: Option<Bucket>,
    /// `None` for a bucket. Not checked as a key to write to.
    pub key: Option<String>,
    /// Decoded name and value, in the order sent; a bare name has an empty value.
    pub query: Vec<(String, String)>,
    /// Host as the client wrote it, with the port.
    pub host: String,
    /// The bucket was named in the path.
    pub path_style: bool,
}

impl Request {
    /// Understands the address of a request.
    ///
    /// # Errors
    /// `InvalidArgument` for malformed or oversized targets, `InvalidBucketName` for names that cannot be a bucket.
    pub fn parse(head: &Parts, base_domain: &str) -> Result<Self, Failure> {
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        if target.len() > TARGET_MAX {
            return Err(Failure::new(Code::InvalidArgument, format!("The request target exceeds {TARGET_MAX} bytes.")));
        }
        let host = host_of(head);
        let path = decode(head.uri.path(), "path")?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let query = parse_query(head.uri.query().unwrap_or(""))?;
        let (bucket, key, path_style) = match bucket_of(&host, base_domain) {
            Some(bucket) => (Some(bucket.to_owned()), path, false),
            None => {
                let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
                ((!bucket.is_empty()).then(|| bucket.to_owned()), key, true)
            }
        };
        if bucket.is_none() && !key.is_empty() {
            return Err(Failure::new(Code::InvalidBucketName, "The bucket name is empty."));
        }
        let bucket = bucket.map(checked_bucket).transpose()?;
        let key = (!key.is_empty()).then(|| key.to_owned());
        Ok(Self { method: head.method.clone(), headers: head.headers.clone(), bucket, key, query, host, path_style })
    }

    /// The value of a query parameter; the first if it is repeated.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A header's text; `None` when absent or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A flag in the query such as `fetch-owner=true`.
    pub fn is_query_true(&self, name: &str) -> bool {
        self.query(name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// Objects here have one version, which `versionId=null` names.
    ///
    /// # Errors
    /// `NotImplemented` for any other.
    pub fn names_current_version(&self) -> Result<(), Failure> {
        match self.query("versionId") {
            None | Some("null") => Ok(()),
            Some(_) => Err(Failure::not_implemented("versions: the only one is null")),
        }
    }

    /// Answers with percent-encoded keys were asked for.
    pub fn encodes_keys(&self) -> Result<bool, Failure> {
        match self.query("encoding-type") {
            None | Some("") => Ok(false),
            Some(url) if url.eq_ignore_ascii_case("url") => Ok(true),
            Some(other) => Err(Failure::argument("encoding-type", other, "The only encoding is url.")),
        }
    }

    /// A whole number in the query, within `range`.
    pub fn number(&self, name: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>, Failure> {
        let Some(text) = self.query(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        match text.parse::<u32>() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(Failure::argument(
                name,
                text,
                format!("{name} must be a whole number from {} to {}.", range.start(), range.end()),
            )),
        }
    }
}

fn checked_bucket(name: String) -> Result<Bucket, Failure> {
    let refused = |_| Failure::new(Code::InvalidBucketName, "The bucket name is not valid.").with("BucketName", &name);
    Bucket::new(name.clone()).map_err(refused)
}

fn host_of(head: &Parts) -> String {
    let header = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| head.uri.authority().map(|authority| authority.as_str())).unwrap_or("").to_owned()
}

/// The bucket in a virtual host name: what stands before `.base_domain`.
fn bucket_of<'a>(host: &'a str, base_domain: &str) -> Option<&'a str> {
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(n, _)| n);
    if name.parse::<IpAddr>().is_ok() {
        return None;
    }
    let cut = name.len().checked_sub(base_domain.len())?;
    let domain = name.get(cut..)?;
    let bucket = name.get(..cut)?.strip_suffix('.')?;
    (domain.eq_ignore_ascii_case(base_domain) && !bucket.is_empty()).then_some(bucket)
}

fn parse_query(raw: &str) -> Result<Vec<(String, String)>, Failure> {
    let pairs: Vec<&str> = raw.split('&').filter(|pair| !pair.is_empty()).collect();
    if pairs.len() > QUERY_MAX {
        return Err(Failure::new(Code::InvalidArgument, format!("More than {QUERY_MAX} query parameters.")));
    }
    let decode = |text: &str| decode(&text.replace('+', " "), "query");
    let split = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    };
    pairs.into_iter().map(split).collect()
}

/// Percent-decodes, refusing what is not a percent-encoding of UTF-8.
fn decode(text: &str, place: &str) -> Result<String, Failure> {
    let malformed = || Failure::argument(place, text, format!("The {place} is not percent-encoded UTF-8."));
    let whole = |rest: &str| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit);
    if !text.split('%').skip(1).all(whole) {
        return Err(malformed());
    }
    percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(host: &str, target: &str) -> Result<Request, Failure> {
        let request = http::Request::builder().uri(target).header("host", host).body(()).expect("a request");
        Request::parse(&request.into_parts().0, "oss.test")
    }

    fn address(host: &str, target: &str) -> (Option<String>, Option<String>) {
        let request = parse(host, target).expect("a good address");
        (request.bucket.map(String::from), request.key)
    }

    fn pair(bucket: &str, key: &str) -> (Option<String>, Option<String>) {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (some(bucket), some(key))
    }

    #[test]
    fn the_bucket_is_in_the_path_or_in_the_host() {
        assert_eq!(address("127.0.0.1:9000", "/demo/a/b"), pair("demo", "a/b"));
        assert_eq!(address("[::1]:9000", "/demo/a"), pair("demo", "a"));
        assert_eq!(address("oss.test", "/demo/"), pair("demo", ""));
        assert_eq!(address("oss.test:80", "/demo"), pair("demo", ""));
        assert_eq!(address("oss.test", "/"), pair("", ""));
        assert_eq!(address("demo.oss.test:80", "/a/b"), pair("demo", "a/b"));
        assert_eq!(address("demo.OSS.test", "/"), pair("demo", ""));
        assert_eq!(address("other.example", "/demo/k"), pair("demo", "k"));
    }

    #[test]
    fn keys_are_decoded_once_and_never_normalised() {
        assert_eq!(address("h", "/demo/a%2Fb"), pair("demo", "a/b"));
        assert_eq!(address("h", "/demo/%2E%2E/../x"), pair("demo", "../../x"));
        assert_eq!(address("h", "/demo//a//"), pair("demo", "/a//"));
        assert_eq!(address("h", "/demo/a+b%2541"), pair("demo", "a+b%41"));
    }

    #[test]
    fn a_plus_in_the_query_is_a_space_and_a_bare_name_has_no_value() {
        let request = parse("h", "/demo?uploads&prefix=a+b%2Bc&x=").expect("a good address");
        assert_eq!(request.query("uploads"), Some(""));
        assert_eq!(request.query("prefix"), Some("a b+c"));
        assert_eq!(request.query("x"), Some(""));
        assert_eq!(request.query("y"), None);
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for (target, code) in [
            ("/demo/%xb", Code::InvalidArgument),
            ("/demo/%4", Code::InvalidArgument),
            ("/demo/%", Code::InvalidArgument),
            ("/demo/%FF", Code::InvalidArgument),
            ("/demo?a=%zz", Code::InvalidArgument),
            ("/UP/k", Code::InvalidBucketName),
            ("/../k", Code::InvalidBucketName),
            ("//k", Code::InvalidBucketName),
        ] {
            assert_eq!(parse("h", target).err().expect(target).code, code, "{target}");
        }
        let many = format!("/demo?{}", "a&".repeat(65));
        assert_eq!(parse("h", &many).err().expect("too many").code, Code::InvalidArgument);
        let long = format!("/demo/{}", "a".repeat(17 << 10));
        assert_eq!(parse("h", &long).err().expect("too long").code, Code::InvalidArgument);
    }

    #[test]
    fn every_bad_bucket_name_is_refused() {
        let misc: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/misc.json")).expect("misc.json is JSON");
        for name in misc["bucket_names"]["invalid"].as_array().expect("names") {
            let name = name.as_str().expect("a name");
            if !name.is_empty() {
                assert_eq!(parse("h", &format!("/{name}/k")).err().expect(name).code, Code::InvalidBucketName);
            }
        }
        for name in misc["bucket_names"]["valid"].as_array().expect("names") {
            let name = name.as_str().expect("a name");
            assert_eq!(address("h", &format!("/{name}/k")), pair(name, "k"));
        }
    }
}
