//! The status page at `/_haul/`: what is stored, what is under way, what goes wrong on demand.
//!
//! It asks for no signature, so it is answered only to this machine: the peer must be a loopback address and the `Host`
//! an address or `localhost`, so that no page from elsewhere reaches it under a name of its own. No bucket is called
//! `_haul`: nothing is hidden by it.

use std::net::IpAddr;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Serialize;

use super::faults::Injected;
use super::outgoing::{Outgoing, outgoing};
use super::store::{BucketView, UploadView};
use super::wire::Line;

const PREFIX: &str = "/_haul/";
const PAGE: &str = include_str!("status/page.html");
/// Most items of each list.
pub(crate) const LIST_MAX: usize = 100;

/// What the page shows.
#[derive(Serialize)]
pub(crate) struct Status {
    pub region: String,
    pub requests: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub buckets: Vec<BucketView>,
    pub uploads: Vec<UploadView>,
    pub faults: Vec<Injected>,
}

/// Answers what is asked of the page; `None` for all that is not.
pub(crate) fn answer(
    head: &http::request::Parts,
    line: &Line,
    status: impl FnOnce() -> Status,
) -> Option<Response<Outgoing>> {
    let rest = head.uri.path().strip_prefix(PREFIX)?;
    if !is_local(head, line) {
        return Some(plain(StatusCode::FORBIDDEN, "The status page is for this machine only."));
    }
    if head.method != Method::GET && head.method != Method::HEAD {
        return Some(plain(StatusCode::METHOD_NOT_ALLOWED, "The status page is only read."));
    }
    Some(match rest {
        "" => page(),
        "status.json" => json(&status()),
        _ => plain(StatusCode::NOT_FOUND, "There is nothing here: see /_haul/"),
    })
}

fn is_local(head: &http::request::Parts, line: &Line) -> bool {
    let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let authority = host.parse::<http::uri::Authority>().ok();
    let name = authority.as_ref().map_or("", |authority| authority.host());
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let is_named_well = is_address || name.eq_ignore_ascii_case("localhost");
    is_named_well && line.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback())
}

/// The page with a fresh nonce: only its own script and style run.
fn page() -> Response<Outgoing> {
    let nonce = format!("{:032x}", fastrand::u128(..));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = with_type(StatusCode::OK, "text/html; charset=utf-8", PAGE.replace("{nonce}", &nonce));
    let policy = HeaderValue::try_from(policy).ok().map(|policy| (http::header::CONTENT_SECURITY_POLICY, policy));
    response.headers_mut().extend(policy);
    response
}

fn json(status: &Status) -> Response<Outgoing> {
    #[derive(Serialize)]
    struct Whole<'a> {
        version: &'static str,
        list_max: usize,
        #[serde(flatten)]
        status: &'a Status,
    }
    match serde_json::to_string(&Whole { version: env!("CARGO_PKG_VERSION"), list_max: LIST_MAX, status }) {
        Ok(text) => with_type(StatusCode::OK, "application/json", text),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Outgoing> {
    with_type(status, "text/plain; charset=utf-8", text.to_owned())
}

fn with_type(status: StatusCode, content_type: &'static str, text: String) -> Response<Outgoing> {
    let mut response = Response::new(outgoing(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let no_sniffing = (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response.headers_mut().insert(no_sniffing.0, no_sniffing.1);
    response
}
