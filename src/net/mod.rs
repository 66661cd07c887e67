//! Exchanges with an endpoint: one request, one answer.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;

use crate::model::retry::Fault;

/// Body of a request, streamed.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body could not be produced.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Sends one request and gets the whole answer; answers are small in everything an upload does.
pub trait Transport: Send + Sync {
    /// The request's URI is absolute. Any status is an answer, not a fault.
    fn send(&self, request: http::Request<Body>) -> BoxFuture<'_, Result<http::Response<Bytes>, Fault>>;
}
