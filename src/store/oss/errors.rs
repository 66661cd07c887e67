//! What a refusal of OSS means (specification, section 5).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use serde::Deserialize;

use crate::model::retry::{Fault, FaultKind};
use crate::store::shown::{SHOWN_MAX, shown};
use crate::store::xml;

/// Marks, in lower case, of answers that may repeat what was signed.
const NOT_SHOWN: [&str; 4] = ["<error", "stringtosign", "security-token", "authorization"];

/// What servers for TLS say, in lower case, to those who come without (nginx, Go, Apache).
const TLS_WANTED: [&str; 3] = ["sent to https port", "request to an https server", "to an ssl-enabled server port"];

/// Detailed codes of tokens that are malformed, expired or unknown (specification, section 5.2).
const TOKEN_ECS: [&str; 3] = ["0002-00000006", "0002-00000007", "0002-00000008"];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
    #[serde(rename = "EC")]
    ec: Option<String>,
    endpoint: Option<String>,
}

impl Document {
    /// What this document means under `status`. What the store wrote is shown short and clean.
    fn fault(self, status: StatusCode) -> Fault {
        let echoes = |text: &str| text.to_ascii_lowercase().contains("proxy-authorization");
        let said = |text: Option<String>| text.as_deref().map(shown).filter(|t| !t.is_empty() && !echoes(t));
        let (code, ec) = (said(self.code), said(self.ec));
        let kind = kind(status, code.as_deref(), ec.as_deref());
        let mut message = said(self.message).unwrap_or_else(|| reason(status).to_owned());
        if let Some(endpoint) = said(self.endpoint) {
            message += &format!("; use the endpoint {endpoint}");
        }
        if let Some(hint) = hint(code.as_deref(), ec.as_deref(), &message) {
            message += &format!("; {hint}");
        }
        let request_id = said(self.request_id);
        Fault { code: code.map(Into::into), ec: ec.map(Into::into), request_id, ..Fault::new(kind, message) }
    }
}

/// The fault of an answer whose status is not a success.
pub fn fault(response: &Response<Bytes>) -> Fault {
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
    // The answer to HEAD has no body: the document is in a header.
    let in_header = header("x-oss-err").and_then(|text| STANDARD.decode(text).ok());
    let body = in_header.as_deref().unwrap_or(response.body());
    let status = response.status();
    let document: Document = xml::read(body).unwrap_or_default();
    let unexplained = document.code.is_none() && document.message.is_none();
    let excerpt = if unexplained { excerpt(body) } else { None };
    let document = Document {
        message: document.message.or(excerpt.map(|text| format!("{}: {text}", reason(status)))),
        request_id: document.request_id.or_else(|| header("x-oss-request-id").map(str::to_owned)),
        ec: document.ec.or_else(|| header("x-oss-ec").map(str::to_owned)),
        ..document
    };
    let date = header("date").and_then(|text| httpdate::parse_http_date(text).ok());
    let fault = Fault { status: Some(status.as_u16()), wait: wait(response), date, ..document.fault(status) };
    if status.is_redirection() {
        return redirected(fault, header("location"));
    }
    match mistake(status, &fault, is_web_page(response.headers())) {
        Some((kind, advice)) => Fault { kind, message: format!("{}; {advice}", fault.message), ..fault },
        None => fault,
    }
}

fn redirected(mut fault: Fault, location: Option<&str>) -> Fault {
    fault.message += "; redirects are not followed: use the endpoint of the bucket's region";
    if let Some(server) = location.and_then(server_of_url) {
        fault.message += &format!(" (the store points to {server})");
    }
    fault
}

/// What stands between, or in the place of the store, if it is that which answered, and what a person can do.
///
/// - `fault`: what it would mean if the store had said it.
fn mistake(status: StatusCode, fault: &Fault, is_web_page: bool) -> Option<(FaultKind, &'static str)> {
    let said = fault.message.to_ascii_lowercase();
    Some(match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            (FaultKind::Refused, "the proxy wants a user and a password: http://user:password@host:port")
        }
        StatusCode::NETWORK_AUTHENTICATION_REQUIRED => {
            (FaultKind::Refused, "this network wants you to log in first: open any page in a browser")
        }
        StatusCode::BAD_REQUEST if TLS_WANTED.iter().any(|wanted| said.contains(wanted)) => {
            (FaultKind::Endpoint, "the server speaks TLS: write https:// instead of http://")
        }
        // No key, right or clock changes what a box in between forbids.
        _ if is_web_page && fault.kind == FaultKind::Credentials => (FaultKind::Protocol, WEB_PAGE),
        _ if is_web_page && !fault.kind.is_passing() => (fault.kind, WEB_PAGE),
        _ => return None,
    })
}

const WEB_PAGE: &str = "this is a web page and no answer of the store: a proxy, a portal or another server gave it";

/// Whether the answer is a page for people. The store's own answers have an id, and an object that is one has a tag.
fn is_web_page(headers: &HeaderMap) -> bool {
    let is_html = |value: &HeaderValue| value.as_bytes().to_ascii_lowercase().starts_with(b"text/html");
    headers.get(CONTENT_TYPE).is_some_and(is_html)
        && !headers.contains_key("x-oss-request-id")
        && !headers.contains_key(ETAG)
}

/// The fault of a success that the store has not had, if that is what it is: portals answer so, whatever they are asked.
pub fn not_of_the_store(response: &Response<Bytes>) -> Option<Fault> {
    is_web_page(response.headers()).then(|| Fault {
        status: Some(response.status().as_u16()),
        ..Fault::new(FaultKind::Protocol, format!("{}; {WEB_PAGE}", reason(response.status())))
    })
}

/// The fault in an answer that has a success for its status and an error for its body, if that is what it is.
pub fn fault_in_success(body: &[u8]) -> Option<Fault> {
    let document: Document = xml::read(body).ok()?;
    document.code.as_ref()?;
    Some(document.fault(StatusCode::INTERNAL_SERVER_ERROR))
}

fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("refused")
}

/// The beginning of an answer that is no document, unless it may repeat what was signed or a token: an error document
/// that cannot be read, or the page of a proxy that echoes the request.
fn excerpt(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * SHOWN_MAX)]);
    let lower = text.to_ascii_lowercase();
    let harmless = !NOT_SHOWN.iter().any(|mark| lower.contains(mark));
    (harmless && !text.trim().is_empty()).then(|| shown(&text))
}

/// Scheme and host of an absolute URL; path and query stay out of messages.
fn server_of_url(url: &str) -> Option<String> {
    let url = url.parse::<Uri>().ok()?;
    Some(shown(&format!("{}://{}", url.scheme_str()?, url.host()?)))
}

/// Named by code first, since one status has many meanings; by status where the code says no more.
fn kind(status: StatusCode, code: Option<&str>, ec: Option<&str>) -> FaultKind {
    if status == StatusCode::FORBIDDEN && ec.is_some_and(|ec| TOKEN_ECS.contains(&ec)) {
        return FaultKind::TokenExpired;
    }
    match code.unwrap_or_default() {
        "RequestTimeout" | "BadRequest" => FaultKind::Server,
        "InvalidDigest" => FaultKind::Corrupted,
        "RequestTimeTooSkewed" => FaultKind::ClockSkew,
        "InvalidSecurityToken" | "SecurityTokenExpired" | "AccessKeyIdAndSecurityTokenNotMatch" => {
            FaultKind::TokenExpired
        }
        "NoSuchUpload" => FaultKind::NoSuchUpload,
        "InvalidObjectState" | "SecondLevelDomainForbidden" | "NotImplemented" => FaultKind::Refused,
        "QpsLimitExceeded" => FaultKind::Throttled,
        code if status == StatusCode::SERVICE_UNAVAILABLE && code.ends_with("LimitExceeded") => FaultKind::Throttled,
        _ => kind_of_status(status),
    }
}

fn kind_of_status(status: StatusCode) -> FaultKind {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FaultKind::Credentials,
        StatusCode::NOT_FOUND => FaultKind::NotFound,
        StatusCode::REQUEST_TIMEOUT => FaultKind::Server,
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => FaultKind::Conflict,
        StatusCode::TOO_MANY_REQUESTS => FaultKind::Throttled,
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => FaultKind::Refused,
        status if status.is_server_error() => FaultKind::Server,
        _ => FaultKind::Refused,
    }
}

/// How long the store asks us to wait: milliseconds of its own header, or the seconds of `Retry-After`.
fn wait(response: &Response<Bytes>) -> Option<Duration> {
    let number = |name: &str| response.headers().get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    number("x-oss-qos-delay-time").map(Duration::from_millis).or_else(|| number("retry-after").map(Duration::from_secs))
}

/// What a person can do about it, where the store's own words do not say.
fn hint(code: Option<&str>, ec: Option<&str>, message: &str) -> Option<&'static str> {
    let about_region = message.to_ascii_lowercase().contains("region");
    match (code?, ec) {
        ("SecurityTokenExpired", _) | (_, Some("0002-00000007")) => {
            Some("the session token has expired: get a new one")
        }
        ("InvalidSecurityToken" | "AccessKeyIdAndSecurityTokenNotMatch", _) => {
            Some("the session token does not belong to this key: get a new one, or unset it")
        }
        (_, Some("0002-00000080")) => Some("this account may not use version 1 signatures: use version 4"),
        ("InvalidArgument" | "SignatureDoesNotMatch", _) if about_region => {
            Some("the region that was signed for is not that of the endpoint: set the region")
        }
        ("SignatureDoesNotMatch", _) => Some("the secret is not the one of this key id, or a proxy changes requests"),
        ("InvalidAccessKeyId", _) => Some("the key id is unknown to this endpoint, or disabled"),
        ("RequestTimeTooSkewed", _) => Some("the clock of this machine is off by more than 15 minutes: set it right"),
        ("SecondLevelDomainForbidden", _) => {
            Some("this endpoint wants the bucket in the host name: virtual addressing")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Fault {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        fault(&response.body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
    }

    fn document(code: &str) -> String {
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message><RequestId>R</RequestId></Error>")
    }

    #[test]
    fn every_code_of_errors_json_is_tried_again_where_it_is_recommended_and_nowhere_else() {
        let file: Value = serde_json::from_str(include_str!("../../../tests/vectors/errors.json")).unwrap();
        for row in file["errors"].as_array().unwrap() {
            let (code, status) = (row["code"].as_str().unwrap(), row["http_status"].as_u64().unwrap() as u16);
            if status < 300 {
                continue;
            }
            let fault = answer(status, &[], &document(code));
            let recommended = row["retry_recommended"].as_str().unwrap().starts_with("yes");
            assert_eq!(fault.kind.is_passing(), recommended, "{code}");
            assert_eq!(fault.code.as_deref(), Some(code));
            assert_eq!(fault.request_id.as_deref(), Some("R"));
        }
    }

    #[test]
    fn kinds_tell_what_to_do() {
        let kind = |status, code| answer(status, &[], &document(code)).kind;
        assert_eq!(kind(403, "AccessDenied"), FaultKind::Credentials);
        assert_eq!(kind(403, "SecurityTokenExpired"), FaultKind::TokenExpired);
        let detailed = "<Error><Code>AccessDenied</Code><EC>0002-00000007</EC></Error>";
        assert_eq!(answer(403, &[], detailed).kind, FaultKind::TokenExpired);
        assert_eq!(kind(404, "NoSuchUpload"), FaultKind::NoSuchUpload);
        assert_eq!(kind(404, "NoSuchBucket"), FaultKind::NotFound);
        assert_eq!(kind(409, "FileAlreadyExists"), FaultKind::Conflict);
        assert_eq!(kind(503, "UploadTrafficRateLimitExceeded"), FaultKind::Throttled);
        assert_eq!(kind(400, "InvalidDigest"), FaultKind::Corrupted);
    }

    #[test]
    fn a_refused_head_is_read_from_its_header() {
        let encoded = STANDARD.encode(document("NoSuchKey"));
        let fault = answer(404, &[("x-oss-err", &encoded)], "");
        assert_eq!((fault.code.as_deref(), fault.kind), (Some("NoSuchKey"), FaultKind::NotFound));
    }

    #[test]
    fn the_wait_that_the_store_asks_for_is_read() {
        assert_eq!(answer(503, &[("x-oss-qos-delay-time", "150")], "").wait, Some(Duration::from_millis(150)));
        assert_eq!(answer(503, &[("retry-after", "2")], "").wait, Some(Duration::from_secs(2)));
        assert_eq!(answer(503, &[("retry-after", "soon")], "").wait, None);
    }

    #[test]
    fn what_is_not_a_document_is_shown_short_and_clean() {
        let fault = answer(502, &[], &format!("<html>\x07{}", "x".repeat(5000)));
        assert_eq!(fault.kind, FaultKind::Server);
        assert!(fault.message.len() < 300 && !fault.message.contains('\x07'), "{}", fault.message);
    }

    #[test]
    fn what_stands_in_the_place_of_the_store_is_named_and_not_asked_again() {
        let page = ("content-type", "text/html; charset=utf-8");
        let nginx = "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>";
        let go = "Client sent an HTTP request to an HTTPS server.\n";
        for (status, headers, body, kind, wanted) in [
            (400, &[page][..], nginx, FaultKind::Endpoint, "write https://"),
            (400, &[], go, FaultKind::Endpoint, "write https://"),
            (403, &[page], "<html>Blocked by policy</html>", FaultKind::Protocol, "a web page"),
            (404, &[page], "<html>Not here</html>", FaultKind::NotFound, "a web page"),
            (407, &[page], "<html>Log in</html>", FaultKind::Refused, "wants a user and a password"),
            (511, &[page], "<html>Log in</html>", FaultKind::Refused, "log in first"),
            (505, &[], "", FaultKind::Refused, "HTTP Version Not Supported"),
            (502, &[page], "<html>Bad gateway</html>", FaultKind::Server, "Bad gateway"),
            (429, &[page], "<html>Slow down</html>", FaultKind::Throttled, "Slow down"),
            (403, &[page, ("x-oss-request-id", "R")], "<html/>", FaultKind::Credentials, "Forbidden"),
            (301, &[("location", "https://h.example/p?q")], "", FaultKind::Refused, "points to https://h.example)"),
        ] {
            let fault = answer(status, headers, body);
            assert!(fault.kind == kind && fault.message.contains(wanted), "{status}: {fault:?}");
        }
    }

    #[test]
    fn a_page_that_stands_for_an_answer_is_no_success() {
        let success = |headers: &[(&str, &str)]| {
            let response =
                headers.iter().fold(Response::builder(), |response, (name, value)| response.header(*name, *value));
            not_of_the_store(&response.body(Bytes::new()).unwrap()).map(|fault| fault.kind)
        };
        assert_eq!(success(&[("content-type", "Text/HTML")]), Some(FaultKind::Protocol));
        for fine in [("etag", "\"A\""), ("x-oss-request-id", "R")] {
            assert_eq!(success(&[("content-type", "text/html"), fine]), None, "{fine:?}");
        }
        assert_eq!(success(&[("content-type", "application/xml")]), None);
    }

    #[test]
    fn what_was_signed_is_not_repeated() {
        let body =
            "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message><StringToSign>canary</StringToSign></Error>";
        assert!(!answer(403, &[], body).to_string().contains("canary"));
    }
}
