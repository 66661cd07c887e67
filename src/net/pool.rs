//! The connection pool: keep-alive across requests, idle ageing, deadlines.
//!
//! A connection carries one request at a time and goes back to the pool only after an exchange that ended well: one that
//! failed, stalled or was answered early is dropped, never reused. HTTP/1.1 over [`hyper::client::conn`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, Response, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::connect::{Connected, Connector, transport};
use super::deadline::Deadline;
use super::limit::{Limiter, Slowed};
use super::meter::Carried;
use super::origin::Origin;
use super::stage::{Stage, Staged};
use super::watch::{Moved, Watched};
use super::{Body, Transport, peer, tls};
use crate::model::event::Step;
use crate::model::retry::{Fault, FaultKind};

/// Connections idle for longer are closed: OSS and the boxes in between forget them after about a minute.
const IDLE_MAX: Duration = Duration::from_secs(45);
/// Largest answer that is believed. A full page of 1,000 uploads with the longest keys is about 4 MiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// hyper's write buffer. Small, so that every chunk of a body goes to the socket while it is still in the cache, and a
/// connection holds one chunk at a time.
const HYPER_BUFFER_BYTES: usize = 16 << 10;

/// How often in a window an exchange is looked at.
const LOOKS: u32 = 8;

/// Pooled connections to the hosts of one endpoint.
pub struct Pool {
    connector: Connector,
    /// Longest time without progress; see [`super::deadline`].
    window: Duration,
    idle: Mutex<HashMap<Origin, Vec<Connection>>>,
    limiter: Option<Arc<Limiter>>,
    /// Whether an answer has come: then what was addressed is what was meant, and what fails may pass.
    answered: AtomicBool,
}

struct Connection {
    sender: http1::SendRequest<Body>,
    moved: Moved,
    carried: Carried,
    peer: SocketAddr,
    proxied: Option<Option<HeaderValue>>,
    idle_since: Instant,
    driver: AbortHandle,
}

/// The driver of a stalled connection would wait for the socket for ever.
impl Drop for Connection {
    fn drop(&mut self) {
        self.carried.set(None);
        self.driver.abort();
    }
}

impl Pool {
    /// - `window`: longest time without progress in an exchange.
    /// - `limiter`: what all connections together may write.
    pub fn new(connector: Connector, window: Duration, limiter: Option<Arc<Limiter>>) -> Self {
        Self { connector, window, idle: Mutex::default(), limiter, answered: AtomicBool::new(false) }
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Bytes>, Fault> {
        let origin = Origin::of(request.uri())
            .ok_or_else(|| Fault::new(FaultKind::Refused, format!("{} is not an HTTP address", request.uri())))?;
        let stage = request.extensions().get::<Stage>().cloned().unwrap_or_default();
        let mut request = with_host(request)?.map(|body| Staged::new(body, stage.clone()).boxed_unsync());
        loop {
            stage.set(Step::Connection);
            let (mut connection, fresh) = self.connection(&origin).await?;
            let absolute = request.uri().clone();
            let streams = !request.body().is_end_stream();
            address(&mut request, &connection);
            match self.converse(&mut connection, request, &stage).await {
                Ok(response) => {
                    self.answered.store(true, Ordering::Relaxed);
                    self.put_back(origin, connection, streams, &response).await;
                    return Ok(response);
                }
                // The server closed an idle connection before it took anything of the request.
                Err(Failure::NotSent(returned)) if !fresh => {
                    request = *returned;
                    *request.uri_mut() = absolute;
                }
                Err(Failure::NotSent(_)) => {
                    let fault = transport(format!("{} closed the connection", origin.host));
                    return Err(self.judged(fault, &origin, connection).await);
                }
                Err(Failure::Broken(fault)) => return Err(self.judged(fault, &origin, connection).await),
                Err(Failure::GivenUp(fault)) => return Err(fault),
            }
        }
    }

    /// `fault`, which ended an exchange, or the mistake behind it: a server that has not answered once may be none that
    /// speaks HTTP/1.1 in the clear or over TLS, as it was addressed, and will not be when it is asked again.
    async fn judged(&self, fault: Fault, origin: &Origin, connection: Connection) -> Fault {
        if fault.kind != FaultKind::Transport || self.answered.load(Ordering::Relaxed) {
            return fault;
        }
        let (moved, direct) = (connection.moved.clone(), connection.proxied.is_none());
        drop(connection);
        let silent = moved.first().is_empty() && direct && !origin.https;
        let what = match peer::mistaken(moved.first()) {
            None if silent && self.connector.speaks_tls(origin).await => peer::TLS.to_owned(),
            None => return fault,
            Some(what) => what,
        };
        let who = if direct { "" } else { "the proxy, or " };
        Fault::new(FaultKind::Endpoint, format!("{who}{} {what}", origin.authority()))
    }

    /// An idle connection, or a new one and `true`.
    async fn connection(&self, origin: &Origin) -> Result<(Connection, bool), Fault> {
        if let Some(connection) = self.take_idle(origin) {
            return Ok((connection, false));
        }
        let carried = Carried::default();
        let Connected { stream, peer, proxied } = self.connector.connect(origin, &carried).await?;
        let (stream, moved) = Watched::new(stream);
        let stream = Slowed::new(stream, self.limiter.clone(), carried.clone());
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(HYPER_BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| transport(format!("HTTP with {}: {e}", origin.host)))?;
        // Its error also reaches the sender.
        let driver = tokio::spawn(driver).abort_handle();
        Ok((Connection { sender, moved, carried, peer, proxied, idle_since: Instant::now(), driver }, true))
    }

    /// The connection used last is the one most likely to be alive and fast.
    fn take_idle(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(|e| e.into_inner());
        let connections = idle.get_mut(origin)?;
        connections.retain(|c| c.idle_since.elapsed() < IDLE_MAX && c.sender.is_ready());
        connections.pop()
    }

    async fn put_back(&self, origin: Origin, mut connection: Connection, streams: bool, response: &Response<Bytes>) {
        // A refusal may have come while the body was still being sent: the rest of it would be taken for a request.
        if (streams && !response.status().is_success()) || connection.sender.ready().await.is_err() {
            return;
        }
        connection.carried.set(None);
        connection.idle_since = Instant::now();
        self.idle.lock().unwrap_or_else(|e| e.into_inner()).entry(origin).or_default().push(connection);
    }

    async fn converse(
        &self,
        connection: &mut Connection,
        request: Request<Body>,
        stage: &Stage,
    ) -> Result<Response<Bytes>, Failure> {
        let body_bytes = request.body().size_hint().exact().unwrap_or_default();
        let overdue = overdue(self.window, body_bytes, stage, connection.moved.clone());
        stage.set(if body_bytes == 0 { Step::Answer } else { Step::Sending });
        connection.carried.set(Some(stage.clone()));
        let exchange = async {
            let response =
                connection.sender.try_send_request(request).await.map_err(|mut e| match e.take_message() {
                    Some(request) => Failure::NotSent(Box::new(request)),
                    None => Failure::Broken(broken(e.error())),
                })?;
            stage.set(Step::Receiving);
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|e| Failure::Broken(transport(format!("the answer broke off: {}", chain(&*e)))))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::select! {
            result = exchange => result,
            why = overdue => {
                self.connector.avoid(connection.peer);
                Err(Failure::GivenUp(transport(format!("gave up on {}: {why}", connection.peer))))
            }
        }
    }
}

enum Failure {
    /// No byte of it left this machine.
    NotSent(Box<Request<Body>>),
    /// The connection failed.
    Broken(Fault),
    /// Nothing happened for too long.
    GivenUp(Fault),
}

impl Transport for Pool {
    fn send(&self, request: Request<Body>) -> BoxFuture<'_, Result<Response<Bytes>, Fault>> {
        Box::pin(self.exchange(request))
    }
}

/// Ends when the exchange has to, and says why.
async fn overdue(window: Duration, body_bytes: u64, stage: &Stage, moved: Moved) -> String {
    let mut deadline = Deadline::new(window, body_bytes, stage.time(), moved.traffic());
    loop {
        tokio::time::sleep(window / LOOKS).await;
        let (now, step) = (stage.time(), stage.now().step);
        if let Some(why) = deadline.overdue(now, step, moved.traffic()) {
            return why;
        }
    }
}

fn with_host(mut request: Request<Body>) -> Result<Request<Body>, Fault> {
    if !request.headers().contains_key(HOST) {
        let authority = request.uri().authority().map(|a| a.as_str()).unwrap_or_default();
        let host = HeaderValue::from_str(authority)
            .map_err(|_| Fault::new(FaultKind::Refused, format!("{authority} is not a host")))?;
        request.headers_mut().insert(HOST, host);
    }
    Ok(request)
}

/// Writes the target in the form that the other end of the connection wants: whole for a proxy, else the path alone.
fn address(request: &mut Request<Body>, connection: &Connection) {
    match &connection.proxied {
        Some(Some(authorization)) => {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        Some(None) => {}
        None => {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        }
    }
}

/// A connection that failed. What TLS has against it is said behind the handshake, too.
fn broken(error: &(dyn std::error::Error + 'static)) -> Fault {
    let message = chain(error);
    let io =
        std::iter::successors(Some(error), |error| error.source()).find_map(|e| e.downcast_ref::<std::io::Error>());
    let tls = io.and_then(|io| io.get_ref()).and_then(|e| e.downcast_ref::<rustls::Error>());
    match tls.and_then(|error| tls::distrust(error, false)) {
        Some((kind, why)) => Fault::new(kind, format!("{message}; {why}")),
        None => transport(message),
    }
}

/// An error and what caused it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::explain::Cost;

    #[tokio::test(start_paused = true)]
    async fn what_our_own_limit_holds_back_is_not_given_up() {
        let second = Duration::from_secs(1);
        let stage = Stage::new(Step::Sending);
        let (_, moved) = Watched::new(tokio::io::empty());
        let mut given_up = Box::pin(overdue(second, 1 << 20, &stage, moved));
        stage.enter(Cost::Rate);
        assert!(tokio::time::timeout(3600 * second, &mut given_up).await.is_err());
        stage.rest();
        assert!(tokio::time::timeout(2 * second, &mut given_up).await.is_ok());
    }
}
