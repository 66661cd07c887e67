//! The role of an ECS instance, from its metadata server (specification, section 7.3). With a token the requests are of
//! version 2, without one of version 1.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};

use super::Credentials;
use super::answer::{self, refused};
use crate::model::retry::Fault;

const TTL: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aliyun-ecs-metadata-token";
/// How long a token of the metadata server is asked for, in seconds; the longest there is.
const TTL_SECONDS: u64 = 21_600;
const ROLES: &str = "/latest/meta-data/ram/security-credentials/";

/// Asks for a token of the metadata server.
///
/// # Errors
/// A fault if `at` is no address.
pub fn token_request(at: &str) -> Result<Request<Bytes>, Fault> {
    let mut request = answer::request(Method::PUT, &format!("{at}/latest/api/token"), Bytes::new())?;
    request.headers_mut().insert(TTL, HeaderValue::from(TTL_SECONDS));
    Ok(request)
}

/// Asks for the name of the role that the instance has, or for the credentials of the role `name`.
///
/// # Errors
/// A fault if `at` is no address or `name` no name of a role.
pub fn request(at: &str, name: Option<&str>, token: Option<&HeaderValue>) -> Result<Request<Bytes>, Fault> {
    if name.is_some_and(|name| !is_name(name)) {
        return Err(refused("the name of the role holds characters that it cannot have"));
    }
    let mut request = answer::request(Method::GET, &format!("{at}{ROLES}{}", name.unwrap_or_default()), Bytes::new())?;
    if let Some(token) = token {
        request.headers_mut().insert(TOKEN, token.clone());
    }
    Ok(request)
}

/// The token in an answer.
///
/// # Errors
/// A fault for refusals and for what no header can carry.
pub fn token(response: &Response<Bytes>) -> Result<HeaderValue, Fault> {
    let body = answer::body(response)?.trim_ascii();
    let mut token = HeaderValue::from_bytes(body).ok().filter(|_| !body.is_empty());
    token.iter_mut().for_each(|token| token.set_sensitive(true));
    token.ok_or_else(|| refused("the metadata server gave no token"))
}

/// The name of a role in an answer.
///
/// # Errors
/// A fault for refusals and for what is no name of a role.
pub fn name(response: &Response<Bytes>) -> Result<String, Fault> {
    let text = String::from_utf8_lossy(answer::body(response)?);
    let name = text.lines().next().unwrap_or_default().trim();
    if is_name(name) { Ok(name.to_owned()) } else { Err(refused("the metadata server names no role of this instance")) }
}

/// The credentials in an answer.
///
/// # Errors
/// A fault for refusals and for what is no key.
pub fn credentials(response: &Response<Bytes>) -> Result<Credentials, Fault> {
    answer::read(answer::body(response)?)
}

fn is_name(text: &str) -> bool {
    let carried = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(carried)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_to_another_path() {
        for name in ["a/../b", "a?b", "", "a b", &"a".repeat(65)] {
            assert!(request("http://127.0.0.1", Some(name), None).is_err(), "{name}");
        }
        let path = request("http://127.0.0.1", Some("Role-1"), None).unwrap().uri().path().to_owned();
        assert_eq!(path, "/latest/meta-data/ram/security-credentials/Role-1");
        let page = Response::new(Bytes::from_static(b"<html>no such thing</html>"));
        assert!(super::name(&page).is_err());
    }
}
