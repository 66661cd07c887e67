//! The fault itself, before and after the operation.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use http::{Method, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::rule::{Fault, InjectedError};
use crate::model::object::UploadId;
use crate::server::access::http_date;
use crate::server::errors;
use crate::server::operations::body::{Damage, Incoming, flipped};
use crate::server::outgoing::{Outgoing, outgoing};
use crate::server::request::Request;
use crate::server::store::{Address, Catalog};
use crate::server::wire::{Line, Pace, Way};

/// Before a connection ends within a body.
const PAUSE: Duration = Duration::from_millis(50);
const CRC: HeaderName = HeaderName::from_static("x-oss-hash-crc64ecma");

/// A fault that is to happen to one request.
pub(crate) struct Injection {
    pub fault: Fault,
    pub line: Arc<Line>,
}

/// How the request goes on.
pub(crate) enum Before {
    GoOn,
    /// Without the operation.
    Answer(InjectedError),
}

impl Injection {
    /// What happens before the operation; may never return.
    pub async fn before(&self, request: &Request, body: &mut Incoming, catalog: &Arc<Catalog>) -> Before {
        match &self.fault {
            Fault::Reset => self.cut().await,
            Fault::Hang => {
                // Once nothing of the request is left, the end of the client is noticed: its connection ends with it.
                body.skip(u64::MAX).await;
                pending().await
            }
            Fault::ResetWithin { bytes } if request.method != Method::GET => {
                let bytes = bytes.or(body.announced().map(|all| all / 2)).unwrap_or(0);
                body.skip(bytes).await;
                self.cut().await
            }
            Fault::ResetAfter => {
                body.skip(u64::MAX).await;
                self.cut().await
            }
            Fault::Trickle { bytes_per_second, inbound, outbound } => {
                slow_down(&self.line, *bytes_per_second, *inbound, *outbound);
            }
            Fault::Error(error) => return Before::Answer(error.clone()),
            Fault::ErrorIn200 { code, done: false } => return Before::Answer(error_in_200(code)),
            Fault::Flip { at } => body.damage(Damage::Arrived { at: *at }),
            Fault::Rot { at } => body.damage(Damage::Stored { at: *at }),
            Fault::ForgetUpload | Fault::LosePart { .. } => self.lose(request, catalog).await,
            _ => {}
        }
        Before::GoOn
    }

    /// How far the clock is off while the request is judged, in seconds.
    pub fn clock(&self, now: SystemTime) -> SystemTime {
        let Fault::Clock { by_seconds } = self.fault else { return now };
        let by = Duration::from_secs(by_seconds.unsigned_abs());
        let shifted = if by_seconds < 0 { now.checked_sub(by) } else { now.checked_add(by) };
        shifted.unwrap_or(now)
    }

    /// What happens to the answer; may never return.
    pub async fn after(&self, method: &Method, mut response: Response<Outgoing>) -> Response<Outgoing> {
        match &self.fault {
            Fault::LoseAnswer => self.cut().await,
            Fault::Late { by } => tokio::time::sleep(*by).await,
            Fault::WrongCrc => {
                let sum = response.headers().get(CRC).and_then(|sum| sum.to_str().ok()?.parse::<u64>().ok());
                if let Some(sum) = sum {
                    response.headers_mut().insert(CRC, HeaderValue::from(sum ^ 1));
                }
            }
            Fault::NoCrc => drop(response.headers_mut().remove(CRC)),
            Fault::Flip { at } if method == Method::GET => {
                response = response.map(|body| Harmed::new(body, *at, u64::MAX).boxed_unsync());
            }
            Fault::ResetWithin { bytes } if method == Method::GET => {
                let half = || length(&response) / 2;
                self.line.cut_after(Way::Out, bytes.unwrap_or_else(half));
            }
            Fault::Short { bytes } => response = shortened(response, *bytes),
            Fault::GarbageXml => {
                let garbage = "<?xml version=\"1.0\"?><Error><Code>\u{1}</Cod<<>&&;]]><!DOCTYPE";
                response = with_document(response, garbage.into());
            }
            Fault::HugeXml { bytes } => response = with_document(response, huge_xml(*bytes)),
            Fault::HugeHeaders { bytes } => add_headers(&mut response, *bytes),
            Fault::Clock { .. } => {
                let date = http_date(self.clock(SystemTime::now()));
                if let Ok(date) = HeaderValue::try_from(date) {
                    response.headers_mut().insert(DATE, date);
                }
            }
            Fault::ErrorIn200 { code, done: true } if response.status().is_success() => {
                let document = errors::document(code, "Injected after it was done.", "", "", &[], "0000-00000000");
                response = with_document(response, document.into());
            }
            _ => {}
        }
        response
    }

    /// Resets the connection; there is no answer.
    async fn cut(&self) -> ! {
        self.line.cut();
        pending().await
    }

    async fn lose(&self, request: &Request, catalog: &Arc<Catalog>) {
        let (Some(bucket), Some(key), Some(id)) = (&request.bucket, &request.key, request.query("uploadId")) else {
            return;
        };
        let (at, id) = (Address { bucket: bucket.clone(), key: key.clone() }, UploadId(id.to_owned()));
        let fault = self.fault.clone();
        let job = move |catalog: &Catalog| match fault {
            Fault::LosePart { number } => catalog.lose_part(&at, &id, number),
            _ => catalog.abort(&at, &id),
        };
        // An upload that is not there cannot be lost.
        let _ = crate::server::operations::call(catalog, job).await;
    }
}

/// Makes a connection slow for good, or until its client goes.
pub(crate) fn slow_down(line: &Line, bytes_per_second: u64, inbound: bool, outbound: bool) {
    line.end_with_client();
    for (way, is_slow) in [(Way::In, inbound), (Way::Out, outbound)] {
        if is_slow {
            line.add_pace(way, Arc::new(Pace::new(bytes_per_second)));
        }
    }
}

fn error_in_200(code: &str) -> InjectedError {
    InjectedError { status: 200, code: code.to_owned(), ec: "0000-00000000".to_owned(), delay_ms: None }
}

fn with_document(response: Response<Outgoing>, document: Bytes) -> Response<Outgoing> {
    let (mut head, _) = response.into_parts();
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(document.len()));
    Response::from_parts(head, outgoing(document))
}

fn huge_xml(bytes: u64) -> Bytes {
    let (begin, item, end) =
        ("<?xml version=\"1.0\"?><Result>", "<Part><PartNumber>1</PartNumber></Part>", "</Result>");
    let items = usize::try_from(bytes).unwrap_or(0) / item.len();
    [begin, &item.repeat(items), end].concat().into()
}

fn add_headers(response: &mut Response<Outgoing>, bytes: u64) {
    let filler = "x".repeat(1000);
    for at in 0..bytes / 1000 + 1 {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(format!("x-oss-meta-{at}")), HeaderValue::from_str(&filler))
        {
            response.headers_mut().insert(name, value);
        }
    }
}

fn length(response: &Response<Outgoing>) -> u64 {
    let length = response.headers().get(CONTENT_LENGTH);
    length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// Fewer bytes than `Content-Length` says, then the end of the connection.
fn shortened(response: Response<Outgoing>, bytes: Option<u64>) -> Response<Outgoing> {
    let end = bytes.unwrap_or_else(|| length(&response) / 2);
    response.map(|body| Harmed::new(body, u64::MAX, end).boxed_unsync())
}

/// A body with one bit flipped, or one that breaks off.
struct Harmed {
    body: Outgoing,
    passed: u64,
    flip_at: u64,
    end: u64,
    /// Runs when the end was reached: what passed before is to reach the client first.
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Harmed {
    fn new(body: Outgoing, flip_at: u64, end: u64) -> Self {
        Self { body, passed: 0, flip_at, end, pause: None }
    }
}

impl Body for Harmed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.passed >= self.end {
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(PAUSE)));
            ready!(pause.as_mut().poll(task));
            return Poll::Ready(Some(Err(std::io::Error::other("broken off on demand"))));
        }
        let frame = match Pin::new(&mut self.body).poll_frame(task) {
            Poll::Ready(Some(Ok(frame))) => frame,
            other => return other,
        };
        let Ok(mut chunk) = frame.into_data() else { return Poll::Ready(None) };
        chunk.truncate(usize::try_from(self.end - self.passed).unwrap_or(usize::MAX));
        let from = self.passed;
        self.passed += chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(flipped(chunk, from, self.flip_at)))))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
