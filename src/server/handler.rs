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
use http::{HeaderMap, Method, StatusCode};

use super::access::{self, AccessLog, Entry, Meter, Visit, http_date};
use super::auth::{Caller, Verifier};
use super::errors::{Code, Failure, document};
use super::faults::{Before, FaultLog, Faults, Injected, InjectedError, Injection, Subject};
use super::operations::body::{Incoming, RawBody};
use super::operations::{self, Answer, Context, Operation};
use super::outgoing::{Outgoing, outgoing};
use super::request::Request;
use super::status::{self, Status};
use super::store::Catalog;
use super::throttle::{DELAY, Throttle};
use super::traffic_limit::TrafficLimit;
use super::wire::{Line, Way};

pub(crate) struct Handler {
    pub catalog: Arc<Catalog>,
    /// `None`: signatures are switched off.
    pub verifier: Option<Verifier>,
    pub region: String,
    /// `http` or `https`.
    pub scheme: &'static str,
    pub base_domain: String,
    /// Longest wait for more of a body.
    pub body_timeout: Duration,
    /// How long restoring an archived object takes.
    pub restore_time: Duration,
    pub faults: Faults,
    pub fault_log: FaultLog,
    pub meter: Arc<Meter>,
    pub access_log: Option<Arc<AccessLog>>,
    pub serves_status: bool,
    pub throttle: Throttle,
}

/// Why an operation was not done.
enum Stop {
    Refused(Failure),
    Injected(InjectedError),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl Handler {
    /// Neither signatures nor faults nor logs: what a test of one of its parts needs.
    #[cfg(test)]
    pub fn plain(catalog: Arc<Catalog>) -> Self {
        Self {
            catalog,
            verifier: None,
            region: "cn-hangzhou".to_owned(),
            scheme: "http",
            base_domain: "localhost".to_owned(),
            body_timeout: Duration::from_secs(30),
            restore_time: Duration::ZERO,
            faults: Faults::new(Vec::new(), 0),
            fault_log: FaultLog::open(None).expect("no file"),
            meter: Arc::default(),
            access_log: None,
            serves_status: false,
            throttle: Throttle::new(&super::Shape::default()),
        }
    }

    /// Answers one request. What is left of its body is read and thrown away beside the answer.
    pub async fn handle(&self, request: http::Request<RawBody>) -> http::Response<Outgoing> {
        let (head, body) = request.into_parts();
        let line = head.extensions.get::<Arc<Line>>().cloned().unwrap_or_else(|| Line::new(None));
        let page = self.serves_status.then(|| status::answer(&head, &line, || self.status()));
        if let Some(page) = page.flatten() {
            return page;
        }
        let mut visit = Visit::begin(self.meter.clone(), self.access_log.clone());
        visit.entry.request_id = format!("{:024X}", fastrand::u128(..) >> 32);
        visit.entry.method = head.method.to_string();
        visit.entry.peer = line.peer.map(|peer| peer.to_string());
        let mut body = Incoming::new(body, &head.headers, self.body_timeout, self.meter.clone());
        let mut response = self.respond(&head, &mut body, line, &mut visit.entry).await;
        visit.entry.bytes_in = body.received();
        visit.entry.status = response.status().as_u16();
        body.drain();
        put(response.headers_mut(), HeaderName::from_static("x-oss-request-id"), &visit.entry.request_id);
        response.map(|body| access::watched(body, visit))
    }

    fn status(&self) -> Status {
        let (buckets, uploads) = self.catalog.overview(status::LIST_MAX);
        let [requests, bytes_in, bytes_out] = self.meter.read();
        let faults = self.fault_log.recent();
        Status { region: self.region.clone(), requests, bytes_in, bytes_out, buckets, uploads, faults }
    }

    async fn respond(
        &self,
        head: &http::request::Parts,
        body: &mut Incoming,
        line: Arc<Line>,
        entry: &mut Entry,
    ) -> http::Response<Outgoing> {
        let mut injection = None;
        let outcome = match Request::parse(head, &self.base_domain) {
            Ok(request) => {
                let operation = Operation::of(&request);
                entry.operation = operation.as_ref().ok().map(|operation| operation.name());
                entry.bucket = request.bucket.as_ref().map(|bucket| bucket.as_str().to_owned());
                entry.key.clone_from(&request.key);
                if let Ok(operation) = operation {
                    injection = self.injection(operation, &request, &line, entry);
                }
                match self.throttle.admit() {
                    Ok(turn) => {
                        turn.hold(self.answer(operation, &request, body, &line, injection.as_ref()).await).await
                    }
                    Err(busy) => Err(busy.into()),
                }
            }
            Err(failure) => Err(failure.into()),
        };
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
        let (id, is_head) = (entry.request_id.as_str(), head.method == Method::HEAD);
        let answer = match outcome {
            Ok(answer) => answer,
            Err(Stop::Refused(failure)) => {
                entry.code = Some(failure.code.name().to_owned());
                refusal(&failure, id, host, is_head)
            }
            Err(Stop::Injected(error)) => {
                let answer = injected(&error, id, host, is_head);
                entry.code = Some(error.code);
                answer
            }
        };
        tracing::debug!(method = %head.method, path = head.uri.path(), request_id = id, code = entry.code);
        match injection {
            Some(injection) => injection.after(&head.method, finish(answer)).await,
            None => finish(answer),
        }
    }

    /// The fault that the rules have for this request, noted.
    fn injection(
        &self,
        operation: Operation,
        request: &Request,
        line: &Arc<Line>,
        entry: &mut Entry,
    ) -> Option<Injection> {
        let (rule, fault) = self.faults.choose(Subject::of(operation, request))?;
        entry.fault = Some(rule.to_string());
        self.fault_log.note(Injected::of(&rule, operation, request, &entry.request_id));
        Some(Injection { fault, line: line.clone() })
    }

    /// Keys belong to accounts, and the service finds an account by the bucket: without one, the bucket is what is
    /// missing, unless it is to be made.
    fn of_bucket(&self, failure: Failure, request: &Request) -> Failure {
        let makes_bucket = request.method == Method::PUT && request.key.is_none();
        let bucket = request.bucket.as_ref().filter(|_| failure.code == Code::InvalidAccessKeyId && !makes_bucket);
        match bucket.map(|bucket| (bucket, self.catalog.bucket(bucket))) {
            Some((bucket, Err(refusal))) => Failure::from(refusal).with("BucketName", bucket.as_str()),
            _ => failure,
        }
    }

    /// Believes the sender first: what this server does not do is told to those who may ask.
    async fn answer(
        &self,
        operation: Result<Operation, Failure>,
        request: &Request,
        body: &mut Incoming,
        line: &Line,
        injection: Option<&Injection>,
    ) -> Result<Answer, Stop> {
        let mut now = SystemTime::now();
        if let Some(injection) = injection {
            now = injection.clock(now);
            if let Before::Answer(error) = injection.before(request, body, &self.catalog).await {
                return Err(Stop::Injected(error));
            }
        }
        let caller = match &self.verifier {
            Some(verifier) => verifier.verify(request, now).map_err(|failure| self.of_bucket(failure, request))?,
            None => Caller::Owner,
        };
        let operation = match (operation, caller) {
            (Err(_), Caller::Anonymous) => return Err(operations::anonymous_denied().into()),
            (operation, _) => operation?,
        };
        let limit = TrafficLimit::of(operation, request)?;
        if let Some(limit) = limit {
            body.slow_down(limit.bytes_per_second);
        }
        let held_before = line.held(Way::In);
        let (catalog, region, scheme) = (&self.catalog, self.region.as_str(), self.scheme);
        let context = Context { catalog, region, scheme, restore_time: self.restore_time, request, caller };
        let mut answer = operations::run(operation, context, body).await?;
        let outgoing = limit.filter(|_| operation == Operation::GetObject).map(|limit| limit.hold(&mut answer));
        let by_account = line.held(Way::In).saturating_sub(held_before);
        let delay = body.held() + by_account + outgoing.unwrap_or_default();
        if limit.is_some() || !delay.is_zero() {
            answer.set(DELAY, &delay.as_millis().to_string());
        }
        Ok(answer)
    }
}

fn refusal(failure: &Failure, id: &str, host: &str, is_head: bool) -> Answer {
    let mut answer = Answer::new(failure.code.status());
    answer.set("x-oss-ec", failure.finer_code());
    failure.headers.iter().for_each(|(name, value)| answer.set(name, value));
    if matches!(failure.code, Code::RequestTimeout | Code::BadRequest) {
        answer.set("connection", "close");
    }
    answer.error(failure.document(id, host), is_head)
}

fn injected(error: &InjectedError, id: &str, host: &str, is_head: bool) -> Answer {
    let mut answer = Answer::new(StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    answer.set("x-oss-ec", &error.ec);
    if let Some(delay) = error.delay_ms {
        answer.set("x-oss-qos-delay-time", &delay.to_string());
    }
    answer.error(document(&error.code, "Injected on demand.", id, host, &[], &error.ec), is_head)
}

fn finish(answer: Answer) -> http::Response<Outgoing> {
    let mut response = http::Response::new(answer.body);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    *headers = answer.headers;
    let now = SystemTime::now();
    let elapsed = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    put(headers, SERVER, "AliyunOSS");
    put(headers, DATE, &http_date(now));
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
    /// The error document as the body; on HEAD, which has none, in a header.
    fn error(mut self, document: String, is_head: bool) -> Self {
        if is_head {
            self.set("x-oss-err", &STANDARD.encode(document));
            self
        } else {
            self.xml(document)
        }
    }

    /// An XML document as the body.
    pub(crate) fn xml(mut self, document: String) -> Self {
        put(&mut self.headers, CONTENT_TYPE, "application/xml");
        self.bytes = Some(document.len() as u64);
        self.body = outgoing(document.into());
        self
    }
}
