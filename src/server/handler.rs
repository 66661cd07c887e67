//! One request: address, signature, dispatch, and the headers that every answer has.
//!
//! [`Handler::handle`] is a function from request to answer with no socket in it: faults and shaped networks go
//! around it.
//!
//! # Source
//! Dispatch table: specification, section 4.18; headers of every answer: section 4.0.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue, SERVER};
use http::{HeaderMap, Method};

use super::auth::Verifier;
use super::errors::{Code, Failure};
use super::operations::body::{Incoming, Outgoing, RawBody, outgoing};
use super::operations::{self, Answer, Context};
use super::request::Request;
use super::store::Catalog;

pub(crate) struct Handler {
    pub catalog: Arc<Catalog>,
    /// `None`: signatures are switched off.
    pub verifier: Option<Verifier>,
    pub region: String,
    pub base_domain: String,
    /// Longest wait for more of a body.
    pub body_timeout: Duration,
}

impl Handler {
    /// Answers one request. What is left of its body is read and thrown away beside the answer.
    pub async fn handle(&self, request: http::Request<RawBody>) -> http::Response<Outgoing> {
        let (head, body) = request.into_parts();
        let id = format!("{:024X}", fastrand::u128(..) >> 32);
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("").to_owned();
        let is_head = head.method == Method::HEAD;
        let mut body = Incoming::new(body, &head.headers, self.body_timeout);
        let outcome = self.answer(&head, &mut body).await;
        tracing::debug!(
            method = %head.method, path = head.uri.path(), request_id = id,
            outcome = outcome.as_ref().map_or_else(|failure| failure.code.name(), |_| "ok"),
        );
        body.drain();
        let answer = outcome.unwrap_or_else(|failure| refusal(&failure, &id, &host, is_head));
        finish(answer, &id)
    }

    async fn answer(&self, head: &http::request::Parts, body: &mut Incoming) -> Result<Answer, Failure> {
        let request = Request::parse(head, &self.base_domain)?;
        if let Some(verifier) = &self.verifier {
            verifier.verify(&request, SystemTime::now())?;
        }
        let context = Context { catalog: &self.catalog, region: &self.region, request: &request };
        operations::run(context, body).await
    }
}

/// The error document; on HEAD, which has no body, in a header.
fn refusal(failure: &Failure, id: &str, host: &str, is_head: bool) -> Answer {
    let document = failure.document(id, host);
    let mut answer = Answer::new(failure.code.status());
    answer.set("x-oss-ec", failure.code.ec());
    if failure.code == Code::RequestTimeout {
        answer.set("connection", "close");
    }
    if is_head {
        answer.set("x-oss-err", &STANDARD.encode(document));
        answer
    } else {
        answer.xml(document)
    }
}

fn finish(answer: Answer, id: &str) -> http::Response<Outgoing> {
    let mut response = http::Response::new(answer.body);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    *headers = answer.headers;
    let now = SystemTime::now();
    let elapsed = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    put(headers, SERVER, "AliyunOSS");
    put(headers, DATE, &httpdate::fmt_http_date(now));
    put(headers, HeaderName::from_static("x-oss-request-id"), id);
    put(headers, HeaderName::from_static("x-oss-server-time"), &elapsed.as_millis().to_string());
    if !headers.contains_key(http::header::CONNECTION) {
        put(headers, http::header::CONNECTION, "keep-alive");
    }
    if let (Some(bytes), true) = (answer.bytes, answer.status != http::StatusCode::NO_CONTENT) {
        put(headers, CONTENT_LENGTH, &bytes.to_string());
    }
    response
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

impl Answer {
    /// An XML document as the body.
    pub(crate) fn xml(mut self, document: String) -> Self {
        put(&mut self.headers, CONTENT_TYPE, "application/xml");
        self.bytes = Some(document.len() as u64);
        self.body = outgoing(document.into());
        self
    }
}
