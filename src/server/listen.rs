//! Connections: accepting them, TLS, deadlines for headers, and a clean end.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::handler::Handler;
use super::{ServerError, Tls};

/// Longest wait for the headers of a request, an idle connection included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read from a socket at once, at most.
const READ_BUFFER: usize = 512 << 10;
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

/// Accepts until `shutdown` is done, then waits for running requests, but not for ever.
pub(super) async fn run(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handler: Arc<Handler>,
    shutdown: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(connection(stream, tls.clone(), handler.clone(), graceful.watcher()));
                }
                Err(error) => out_of_descriptors(&error).await,
            },
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}

/// An accept that fails has no connection to blame: give others time to close theirs.
async fn out_of_descriptors(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, handler: Arc<Handler>, watcher: Watcher) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, handler, watcher).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve(stream, handler, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, "the TLS handshake failed"),
            Err(_) => tracing::debug!("the TLS handshake took too long"),
        },
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, handler: Arc<Handler>, watcher: Watcher) {
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let handler = handler.clone();
        async move {
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            Ok::<_, Infallible>(handler.handle(request).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(READ_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "the connection ended");
    }
}
