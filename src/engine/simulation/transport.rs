//! A store at the seam of the transport: just the operations of an upload, and the ways in which they go wrong.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;

use super::plant::Plant;
use super::world::{Open, Shared, World, marks};
use crate::model::retry::{Fault, FaultKind};
use crate::net::{Body, Transport};

/// What goes wrong with an exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Before,
    AnswerLost,
    Refused(u16, &'static str),
    ErrorIn200 { done: bool },
    WrongCrc,
    Flipped,
    Forgotten,
    PartLost,
    PartHidden,
}

const TROUBLES: [Trouble; 12] = [
    Trouble::Before,
    Trouble::AnswerLost,
    Trouble::AnswerLost,
    Trouble::Refused(500, "InternalError"),
    Trouble::Refused(503, "QpsLimitExceeded"),
    Trouble::ErrorIn200 { done: true },
    Trouble::ErrorIn200 { done: false },
    Trouble::WrongCrc,
    Trouble::Flipped,
    Trouble::Forgotten,
    Trouble::PartLost,
    Trouble::PartHidden,
];

type Answer = (u16, Vec<(&'static str, String)>, String);

struct Call {
    method: Method,
    id: Option<String>,
    number: Option<u32>,
    initiates: bool,
    body: Bytes,
}

pub struct SimTransport(pub Shared);

impl Transport for SimTransport {
    fn send(&self, request: Request<Body>) -> BoxFuture<'_, Result<Response<Bytes>, Fault>> {
        Box::pin(async move {
            let world = &self.0;
            world.step().await;
            world.delay().await;
            let (head, body) = request.into_parts();
            let lost = |what: &str| Fault::new(FaultKind::Transport, what);
            let body = body.collect().await.map_err(|_| lost("the body ended early"))?.to_bytes();
            let call = Call::new(&head, body);
            let trouble = world.lock().draw();
            if trouble == Some(Trouble::Before) {
                return Err(lost("reset before the request"));
            }
            world.step().await;
            let answer = if world.lock().plant == Plant::ConfirmsEarly && call.number.is_some() {
                confirm_early(world, call)
            } else {
                world.lock().answer(&call, trouble)
            };
            world.step().await;
            world.delay().await;
            if trouble == Some(Trouble::AnswerLost) {
                return Err(lost("reset instead of the answer"));
            }
            world.lock().told_of(&answer);
            Ok(response(answer))
        })
    }
}

/// The store hears of the part after the engine did.
fn confirm_early(world: &Shared, call: Call) -> Answer {
    let (etag, crc64) = marks(&call.body);
    let later = world.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        later.lock().answer(&call, None)
    });
    (200, part_headers(etag, crc64), String::new())
}

fn response((status, headers, body): Answer) -> Response<Bytes> {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body.into()).unwrap()
}

impl Call {
    fn new(head: &http::request::Parts, body: Bytes) -> Self {
        let query = head.uri.query().unwrap_or_default();
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        Self {
            method: head.method.clone(),
            id: value("uploadId").map(str::to_owned),
            number: value("partNumber").and_then(|n| n.parse().ok()),
            initiates: query.split('&').any(|pair| pair == "uploads" || pair == "uploads="),
            body,
        }
    }
}

fn refusal(status: u16, code: &str) -> Answer {
    (status, vec![], format!("<Error><Code>{code}</Code><Message>simulated</Message></Error>"))
}

fn part_headers(etag: String, crc64: u64) -> Vec<(&'static str, String)> {
    vec![("etag", format!("\"{etag}\"")), ("x-oss-hash-crc64ecma", crc64.to_string())]
}

impl World {
    fn draw(&mut self) -> Option<Trouble> {
        let faults = self.faults;
        self.chance(faults).then(|| TROUBLES[self.random.usize(0..TROUBLES.len())])
    }

    /// The engine hears of an upload: from now on it must be made durable.
    fn told_of(&mut self, answer: &Answer) {
        if let Some((_, rest)) = answer.2.split_once("<UploadId>") {
            self.told = rest.split('<').next().map(str::to_owned);
        }
    }

    fn answer(&mut self, call: &Call, trouble: Option<Trouble>) -> Answer {
        match trouble {
            Some(Trouble::Refused(status, code)) => return refusal(status, code),
            Some(Trouble::Forgotten) => drop(call.id.as_ref().map(|id| self.uploads.remove(id))),
            Some(Trouble::PartLost) => {
                call.id.as_ref().and_then(|id| self.uploads.get_mut(id)?.parts.pop_first());
            }
            _ => {}
        }
        match (&call.id, call.number, &call.method) {
            (None, None, &Method::HEAD) => self.head(),
            (None, ..) if call.initiates => (200, vec![], format!("<R><UploadId>{}</UploadId></R>", self.initiate())),
            (Some(id), Some(number), _) => self.take_part(id, number, &call.body, trouble),
            (Some(id), None, &Method::GET) => self.list(id, trouble),
            (Some(id), None, &Method::DELETE) => match self.uploads.remove(id) {
                Some(_) => (204, vec![], String::new()),
                None => refusal(404, "NoSuchUpload"),
            },
            (Some(id), None, _) => self.merge(id, &call.body, trouble),
            _ => refusal(400, "InvalidArgument"),
        }
    }

    fn head(&self) -> Answer {
        let Some(object) = self.object.as_ref().filter(|_| self.plant != Plant::HidesTheObject) else {
            return refusal(404, "NoSuchKey");
        };
        let (etag, crc64) = marks(object);
        let mut headers = part_headers(etag, crc64);
        headers.push(("content-length", object.len().to_string()));
        (200, headers, String::new())
    }

    fn take_part(&mut self, id: &str, number: u32, body: &Bytes, trouble: Option<Trouble>) -> Answer {
        let mut body = body.to_vec();
        let careless = self.plant == Plant::NoChecksums;
        if trouble == Some(Trouble::Flipped) || careless && self.chance(200) {
            body[0] ^= 1;
        }
        let Some((etag, crc64)) = self.put_part(id, number, body.into()) else {
            return refusal(404, "NoSuchUpload");
        };
        let wrong = u64::from(trouble == Some(Trouble::WrongCrc));
        let mut headers = part_headers(etag, crc64 ^ wrong);
        headers.truncate(if careless { 1 } else { 2 });
        (200, headers, String::new())
    }

    fn list(&mut self, id: &str, trouble: Option<Trouble>) -> Answer {
        let log = self.live.clone().filter(|log| log.upload_id.as_ref().is_some_and(|u| u.0 == id));
        let Some(open) = self.uploads.get_mut(id) else { return refusal(404, "NoSuchUpload") };
        let hide = if trouble == Some(Trouble::PartHidden) { open.parts.keys().next().copied() } else { None };
        let recorded = log.iter().flat_map(|log| log.parts.keys().map(|number| number.get()));
        let claimed = self.claims.keys().filter(|(upload, _)| upload == id).map(|(_, number)| *number);
        let recorded = recorded.chain(claimed);
        let gone = recorded.filter(|number| !open.parts.contains_key(number));
        open.hidden = gone.chain(hide).collect();
        let parts = match self.plant {
            Plant::TrustsTheLog => log.map_or_else(String::new, |log| {
                let parts = log.parts.iter();
                parts.map(|(n, p)| listed(n.get(), p.bytes, p.etag.as_str(), p.crc64)).collect()
            }),
            Plant::ForgetsTheLog => String::new(),
            _ => listed_parts(open),
        };
        (200, vec![], format!("<R><IsTruncated>false</IsTruncated>{parts}</R>"))
    }

    fn merge(&mut self, id: &str, body: &[u8], trouble: Option<Trouble>) -> Answer {
        if trouble == (Some(Trouble::ErrorIn200 { done: false })) {
            return (200, vec![], refusal(200, "InternalError").2);
        }
        if !self.uploads.contains_key(id) {
            return refusal(404, "NoSuchUpload");
        }
        if self.complete(id, &named_parts(body)).is_none() {
            return refusal(400, "InvalidPart");
        }
        if trouble == (Some(Trouble::ErrorIn200 { done: true })) {
            return (200, vec![], refusal(200, "InternalError").2);
        }
        let (etag, crc64) = marks(self.object.as_deref().unwrap_or_default());
        let mut headers = part_headers(etag, crc64 ^ u64::from(trouble == Some(Trouble::WrongCrc)));
        headers.truncate(if self.plant == Plant::NoChecksums { 1 } else { 2 });
        (200, headers, String::new())
    }
}

fn listed_parts(open: &Open) -> String {
    let shown = open.parts.iter().filter(|(number, _)| !open.hidden.contains(number));
    shown
        .map(|(number, body)| (marks(body), number, body))
        .map(|((e, c), n, b)| listed(*n, b.len() as u64, &e, c))
        .collect()
}

fn listed(number: u32, bytes: u64, etag: &str, crc64: u64) -> String {
    format!(
        "<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag><Size>{bytes}</Size>\
         <HashCrc64ecma>{crc64}</HashCrc64ecma></Part>"
    )
}

/// Number and ETag of every part in the document of Complete.
fn named_parts(document: &[u8]) -> Vec<(u32, String)> {
    let text = String::from_utf8_lossy(document);
    let between = |text: &str, open: &str, close: &str| Some(text.split_once(open)?.1.split_once(close)?.0.to_owned());
    let part = |text: &str| {
        let number = between(text, "<PartNumber>", "</PartNumber>")?.parse().ok()?;
        Some((number, between(text, "<ETag>", "</ETag>")?.replace("&quot;", "").replace('"', "")))
    };
    text.split("<Part>").skip(1).filter_map(part).collect()
}
