//! Exchanges with an endpoint: one request, one answer, over pooled connections.
//!
//! | file | subject |
//! |---|---|
//! | `pool.rs` | which connection carries a request, and what becomes of it afterwards |
//! | `origin.rs` | which server |
//! | `connect.rs` | name resolution, TCP, proxy tunnels |
//! | `proxy.rs` | which proxy stands in between |
//! | `peer.rs` | what the other end speaks |
//! | `tls.rs`, `verifier.rs` | whom to trust |
//! | `watch.rs` | what a connection moves |
//! | `stage.rs` | where an exchange stands |
//! | `meter.rs` | what it spends its time on |
//! | `deadline.rs` | when it is given up |
//! | `limit.rs` | what the client itself allows |
//! | `exposure.rs` | whether others can read what is sent |

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;

pub use self::deadline::{DRAIN_RATE, RATE_MIN};
use crate::model::retry::Fault;

pub mod connect;
mod deadline;
pub mod exposure;
pub mod limit;
pub mod meter;
pub mod origin;
mod peer;
pub mod pool;
pub mod proxy;
pub mod stage;
pub mod tls;
mod verifier;
mod watch;

/// Body of a request, streamed.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body could not be produced.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body that is in memory already.
pub fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Sends one request and gets the whole answer; answers are small in everything an upload does.
pub trait Transport: Send + Sync {
    /// The request's URI is absolute. Any status is an answer, not a fault.
    fn send(&self, request: http::Request<Body>) -> BoxFuture<'_, Result<http::Response<Bytes>, Fault>>;
}
