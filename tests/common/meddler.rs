//! A proxy between client and store that does what networks and stores do on bad days.
//!
//! It forwards every request, unless the rule says otherwise. The rule sees method, target and how many requests of
//! that kind came before.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a request.
pub enum Fate {
    Forward,
    /// The store does what was asked, and its answer is changed on the way back.
    Edit(fn(&mut HeaderMap)),
    /// Not forwarded: the client gets this status with this body.
    Answer(StatusCode, &'static str),
    /// The connection is closed before the request is read to its end.
    Hangup,
    /// The store does what was asked; the answer is lost.
    LoseAnswer,
    /// Nothing happens any more.
    Hang,
}

/// A request, as the rule sees it.
pub struct Seen<'a> {
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// How many requests with the same method and target came before.
    pub before: u32,
}

impl Seen<'_> {
    pub fn is_part(&self) -> bool {
        self.method == "PUT" && self.target.contains("partNumber=")
    }

    pub fn is_part_number(&self, number: u32) -> bool {
        self.is_part() && self.target.split(['?', '&']).any(|pair| pair == format!("partNumber={number}"))
    }

    pub fn is_complete(&self) -> bool {
        self.method == "POST" && self.target.contains("uploadId=")
    }
}

type Rule = dyn Fn(&Seen) -> Fate + Send + Sync;

/// A proxy with `rule` in front of `store`, on a runtime of its own.
pub fn meddle(
    store: SocketAddr,
    rule: impl Fn(&Seen) -> Fate + Send + Sync + 'static,
) -> (tokio::runtime::Runtime, Meddler) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let meddler = runtime.block_on(Meddler::start(store, rule));
    (runtime, meddler)
}

/// The running proxy; ends with the runtime it was started on.
pub struct Meddler {
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Meddler {
    /// Must be called on a tokio runtime.
    pub async fn start(store: SocketAddr, rule: impl Fn(&Seen) -> Fate + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), store, rule).await
    }

    /// The same, on a given address.
    pub async fn start_at(
        at: SocketAddr,
        store: SocketAddr,
        rule: impl Fn(&Seen) -> Fate + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (rule, seen): (Arc<Rule>, _) = (Arc::new(rule), Arc::new(Mutex::new(HashMap::new())));
        tokio::spawn({
            let log = log.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (rule, seen, log) = (rule.clone(), seen.clone(), log.clone());
                    let service =
                        service_fn(move |request| serve(store, rule.clone(), seen.clone(), log.clone(), request));
                    tokio::spawn(server::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
            }
        });
        Self { address, log }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `METHOD target` of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

type Counts = Arc<Mutex<HashMap<String, u32>>>;

async fn serve(
    store: SocketAddr,
    rule: Arc<Rule>,
    counts: Counts,
    log: Arc<Mutex<Vec<String>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let method = request.method().to_string();
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let line = format!("{method} {target}");
    log.lock().unwrap().push(line.clone());
    let before = {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(line).or_default();
        *count += 1;
        *count - 1
    };
    let broken = || std::io::Error::other("meddled with");
    match rule(&Seen { method: &method, target: &target, before }) {
        Fate::Forward => forward(store, request).await,
        Fate::Edit(edit) => {
            let mut response = forward(store, request).await?;
            edit(response.headers_mut());
            Ok(response)
        }
        Fate::Answer(status, body) => {
            let _ = request.into_body().collect().await;
            Ok(Response::builder().status(status).body(Full::from(body)).unwrap())
        }
        Fate::Hangup => Err(broken()),
        Fate::Hang => std::future::pending().await,
        Fate::LoseAnswer => {
            forward(store, request).await?;
            Err(broken())
        }
    }
}

async fn forward(store: SocketAddr, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let stream = TcpStream::connect(store).await?;
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.map_err(std::io::Error::other)?.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    Ok(Response::from_parts(head, Full::new(body)))
}
