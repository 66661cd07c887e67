//! Connections: accepting them, TLS, deadlines for headers, and a clean end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::faults::{Fault, Injected, Subject, slow_down};
use super::handler::Handler;
use super::wire::{Line, Network, Wire};
use super::{ServerError, Tls};

/// Connections that may wait to be accepted; the kernel has a limit of its own (`somaxconn`).
const BACKLOG: u32 = 4096;
/// Longest head of a request, in bytes: the longest target and the most metadata have room in it.
const HEAD_MAX: usize = 32 << 10;
/// Bytes read from a socket at once, at most: more is not faster (`tuning/README.md`).
const READ_BUFFER_MAX: usize = 128 << 10;
/// What all connections read at once, so that the bodies of many take a bounded amount of memory. A connection reads its
/// share when it is opened, but no less than a head, or a record of TLS.
const READ_BUFFERS: usize = 2 << 20;
const TLS_BUFFER_MIN: usize = 16 << 10;
/// How long running requests may go on after the end was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// Certificate and key made ready.
pub(super) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, ServerError> {
    let text = |error: &dyn std::fmt::Display| ServerError::Tls(error.to_string());
    let certificates = CertificateDer::pem_slice_iter(&tls.certificates_pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| text(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&tls.key_pem).map_err(|error| text(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(|error| text(&error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What every connection comes through.
#[derive(Clone)]
pub(super) struct Door {
    pub tls: Option<TlsAcceptor>,
    /// `None`: nothing slows connections down.
    pub network: Option<Arc<Network>>,
    pub handler: Arc<Handler>,
    pub handshake_timeout: Duration,
    pub head_timeout: Duration,
    pub write_timeout: Duration,
    /// How many connections there are.
    pub open: Arc<AtomicUsize>,
}

/// Counts a connection as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    /// And how many bytes it is to read at once.
    fn new(open: &Arc<AtomicUsize>) -> (Self, usize) {
        let connections = open.fetch_add(1, Ordering::Relaxed) + 1;
        (Self(open.clone()), (READ_BUFFERS / connections).min(READ_BUFFER_MAX))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Listens. What a client has sent on a shaped network is to be in its own socket and not in the server's, so that it
/// meets the same resistance as far away.
pub(super) fn listener(address: SocketAddr, network: Option<&Network>) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if let Some(network) = network {
        socket.set_recv_buffer_size(network.socket_buffer())?;
        socket.set_send_buffer_size(network.socket_buffer())?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until `shutdown` is done, then waits for running requests, but not for ever.
pub(super) async fn run(mut listener: TcpListener, door: Door, shutdown: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let fault = fault_of(&door.handler);
                    if let Some(Fault::Refuse { lasts }) = fault {
                        reset(stream);
                        tokio::select! {
                            () = &mut shutdown => break,
                            again = reopened(listener, &door, lasts) => listener = again,
                        }
                        continue;
                    }
                    tokio::spawn(connection(stream, door.clone(), graceful.watcher(), fault));
                }
                Err(error) => out_of_descriptors(&error).await,
            },
        }
    }
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}

/// An accept that fails has no connection to blame: give others time to close theirs.
async fn out_of_descriptors(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// The fault of a new connection.
fn fault_of(handler: &Handler) -> Option<Fault> {
    let (rule, fault) = handler.faults.choose(Subject::Connection)?;
    handler.fault_log.note(Injected::of_connection(&rule));
    Some(fault)
}

fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Closes the listener, so that connections are refused, and opens it again after a while.
async fn reopened(closed: TcpListener, door: &Door, after: Duration) -> TcpListener {
    let Ok(address) = closed.local_addr() else { return closed };
    drop(closed);
    tokio::time::sleep(after).await;
    loop {
        match listener(address, door.network.as_deref()) {
            Ok(listener) => return listener,
            Err(error) => out_of_descriptors(&error).await,
        }
    }
}

async fn connection(mut stream: TcpStream, door: Door, watcher: Watcher, fault: Option<Fault>) {
    let _ = stream.set_nodelay(true);
    let line = Line::new(stream.peer_addr().ok());
    match fault {
        Some(Fault::Reset) => return reset(stream),
        Some(Fault::Hang) => {
            // As long as the client does not go.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            return;
        }
        Some(Fault::Trickle { bytes_per_second, inbound, outbound }) => {
            slow_down(&line, bytes_per_second, inbound, outbound);
        }
        _ => {}
    }
    let wire = Wire::new(stream, line.clone(), door.network.as_deref(), door.write_timeout);
    let (_open, buffer) = Open::new(&door.open);
    let Some(tls) = &door.tls else { return serve(wire, line, door, buffer, watcher).await };
    // Left to itself, rustls reads 4 KiB at a time.
    let handshake = tls.accept(BufReader::with_capacity(buffer.max(TLS_BUFFER_MIN), wire));
    match tokio::time::timeout(door.handshake_timeout, handshake).await {
        Ok(Ok(stream)) => serve(stream, line, door.clone(), buffer, watcher).await,
        Ok(Err(error)) => {
            tracing::debug!(peer = line.peer.map(tracing::field::display), %error, "the TLS handshake failed")
        }
        Err(_) => tracing::debug!(peer = line.peer.map(tracing::field::display), "the TLS handshake took too long"),
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    line: Arc<Line>,
    door: Door,
    buffer: usize,
    watcher: Watcher,
) {
    let of_requests = line.clone();
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (handler, line) = (door.handler.clone(), of_requests.clone());
        async move {
            let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            request.extensions_mut().insert(line);
            Ok::<_, Infallible>(handler.handle(request).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(door.head_timeout)
        .max_header_size(HEAD_MAX)
        .max_buf_size(buffer.max(HEAD_MAX))
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        outcome = watcher.watch(connection) => match outcome {
            Ok(()) => {}
            Err(error) if error.is_parse() => tracing::warn!(peer = line.peer.map(tracing::field::display), %error, "refused what is not HTTP"),
            Err(error) => tracing::debug!(peer = line.peer.map(tracing::field::display), %error, "the connection ended"),
        },
        () = line.wait_for_cut() => tracing::debug!(peer = line.peer.map(tracing::field::display), "the connection is cut"),
    }
}
