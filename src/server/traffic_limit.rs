//! `x-oss-traffic-limit`: the rate that a client wants for one request.
//!
//! Bytes of bodies are paced, in the operation that moves them: headers and TLS are not counted, so that the limit is
//! exact. It holds for one request, so that four parallel parts have four times the rate.
//!
//! # Source
//! Specification, section 8.

use std::time::Duration;

use super::errors::Failure;
use super::operations::{Answer, Operation};
use super::outgoing::{outgoing, paced};
use super::request::Request;

const NAME: &str = "x-oss-traffic-limit";
/// In bits per second. The documentation begins at 819,200 (100 KiB/s), the comments of the SDKs at 245,760; clients
/// that keep to either are served.
const RANGE: std::ops::RangeInclusive<u64> = 245_760..=838_860_800;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrafficLimit {
    pub bytes_per_second: u64,
}

impl TrafficLimit {
    /// What the request asks for, if its operation moves the bytes of an object.
    ///
    /// # Errors
    /// `InvalidArgument` with the finer codes of a limit given twice, and of one that cannot be kept.
    pub fn of(operation: Operation, request: &Request) -> Result<Option<Self>, Failure> {
        use Operation::{AppendObject, CopyObject, GetObject, PutObject, UploadPart, UploadPartCopy};
        if ![PutObject, AppendObject, UploadPart, GetObject, CopyObject, UploadPartCopy].contains(&operation) {
            return Ok(None);
        }
        let text = match (request.headers.get(NAME), request.query(NAME)) {
            (None, None) => return Ok(None),
            (Some(_), Some(query)) => {
                let message = "Give the limit in the header or in the query, not in both.";
                return Err(Failure::argument(NAME, query, message).ec("0004-00000501"));
            }
            (Some(header), None) => header.to_str().unwrap_or_default(),
            (None, Some(query)) => query,
        };
        let bits = text.parse().ok().filter(|bits| RANGE.contains(bits)).ok_or_else(|| {
            let message = format!("The limit is a whole number of bit/s from {} to {}.", RANGE.start(), RANGE.end());
            Failure::argument(NAME, text, message).ec("0004-00000502")
        })?;
        Ok(Some(Self { bytes_per_second: bits / 8 }))
    }

    /// How long `bytes` take.
    pub fn time(self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)
    }

    /// Slows the body of an answer down; answers with how long that is going to take.
    pub fn hold(self, answer: &mut Answer) -> Duration {
        let body = std::mem::replace(&mut answer.body, outgoing(bytes::Bytes::new()));
        answer.body = paced(body, self.bytes_per_second);
        self.time(answer.bytes.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use tokio::time::Instant;

    use super::*;
    use crate::model::object::Bucket;
    use crate::server::handler::Handler;
    use crate::server::store::{BucketRecord, Catalog, MemoryMedium};

    fn handler() -> Handler {
        let catalog = Catalog::open(Box::new(MemoryMedium::default())).expect("memory");
        catalog.make_bucket(&Bucket::new("demo").expect("a name"), BucketRecord::new()).expect("memory");
        Handler::plain(Arc::new(catalog))
    }

    /// Status, headers and body of an answer, and how long they took.
    async fn send(
        handler: &Handler,
        method: &str,
        target: &str,
        limit: Option<&str>,
        body: usize,
    ) -> (http::response::Parts, Bytes, Duration) {
        let begin = Instant::now();
        let mut request = http::Request::builder().method(method).uri(target).header("content-length", body);
        if let Some(limit) = limit {
            request = request.header(NAME, limit);
        }
        let body = Full::new(Bytes::from(vec![7; body])).map_err(|never| match never {}).boxed_unsync();
        let (parts, body) = handler.handle(request.body(body).expect("a request")).await.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (parts, body, begin.elapsed())
    }

    fn delay(parts: &http::response::Parts) -> Option<&str> {
        parts.headers.get("x-oss-qos-delay-time").map(|value| value.to_str().expect("text"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_as_long_as_the_limit_says_in_both_directions() {
        let handler = handler();
        let (put, _, took) = send(&handler, "PUT", "/demo/key", Some("819200"), 512_000).await;
        assert_eq!((put.status.as_u16(), took.as_secs()), (200, 5));
        assert_eq!(delay(&put), Some("5000"));
        let (get, body, took) = send(&handler, "GET", "/demo/key?x-oss-traffic-limit=1638400", None, 0).await;
        assert_eq!((get.status.as_u16(), body.len()), (200, 512_000));
        assert_eq!(took.as_millis(), 2500);
        assert_eq!(delay(&get), Some("2500"));
        let (head, _, took) = send(&handler, "HEAD", "/demo/key", Some("819200"), 0).await;
        assert_eq!((head.status.as_u16(), took, delay(&head)), (200, Duration::ZERO, None));
        let (put, _, took) = send(&handler, "PUT", "/demo/key", None, 512_000).await;
        assert_eq!((put.status.as_u16(), took, delay(&put)), (200, Duration::ZERO, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_is_limited_like_an_object() {
        let handler = handler();
        let (_, begun, _) = send(&handler, "POST", "/demo/key?uploads", None, 0).await;
        let begun = String::from_utf8_lossy(&begun).into_owned();
        let id = begun.split("<UploadId>").nth(1).and_then(|rest| rest.split('<').next()).expect("an upload id");
        let target = format!("/demo/key?partNumber=1&uploadId={id}");
        let (part, _, took) = send(&handler, "PUT", &target, Some("8192000"), 1_024_000).await;
        assert_eq!((part.status.as_u16(), took.as_secs()), (200, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn limits_that_cannot_be_kept_are_refused_with_their_finer_codes() {
        let handler = handler();
        for (target, limit, ec) in [
            ("/demo/key?x-oss-traffic-limit=819200", Some("819200"), "0004-00000501"),
            ("/demo/key", Some("245759"), "0004-00000502"),
            ("/demo/key", Some("838860801"), "0004-00000502"),
            ("/demo/key", Some("abc"), "0004-00000502"),
            ("/demo/key", Some(""), "0004-00000502"),
            ("/demo/key?x-oss-traffic-limit=-1", None, "0004-00000502"),
        ] {
            let (answer, body, _) = send(&handler, "PUT", target, limit, 10).await;
            let body = String::from_utf8_lossy(&body);
            assert_eq!(answer.status.as_u16(), 400, "{target} {limit:?}");
            assert!(body.contains("<Code>InvalidArgument</Code>"), "{target} {limit:?}: {body}");
            assert!(body.contains(&format!("<EC>{ec}</EC>")), "{target} {limit:?}: {body}");
            assert_eq!(answer.headers["x-oss-ec"], ec);
        }
        for limit in ["245760", "838860800"] {
            assert_eq!(send(&handler, "PUT", "/demo/key", Some(limit), 10).await.0.status.as_u16(), 200);
        }
    }
}
