//! The embedded OSS: an object store that official clients accept, in this process or on its own.
//!
//! It promises that a signature is verified with code of its own, that bodies are streamed with bounded memory, and
//! that what a [`StoreKind::Dir`] store acknowledged is still there after a kill, a restart or a power loss.
//!
//! | file | what it is |
//! |---|---|
//! | `config` | what to serve, and how |
//! | `listen` | connections: TCP, TLS, deadlines, shutdown |
//! | `wire` | one connection that can be slowed down and cut |
//! | `shape` | how far away, wide and busy the server is made to look |
//! | `throttle`, `traffic_limit`, `outgoing` | requests refused or slowed down, as limits say |
//! | `handler` | one request: address, signature, dispatch, common headers |
//! | `request`, `auth` | what a request addresses, and who sent it |
//! | `operations` | what each operation does, one file per subject |
//! | `store` | the catalog of buckets, objects and uploads, over a medium: directory, memory, nothing |
//! | `faults` | what goes wrong on demand |
//! | `access`, `status` | the access log and the status page |
//! | `errors`, `xml` | refusals and documents |
//! | `outside` | what is made of requests, for tests |

mod access;
mod auth;
mod config;
mod errors;
mod faults;
mod handler;
mod listen;
mod operations;
mod outgoing;
#[doc(hidden)]
pub mod outside;
#[cfg(test)]
mod properties;
mod request;
mod shape;
mod status;
mod store;
mod throttle;
mod traffic_limit;
mod wire;
mod xml;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;

pub use self::access::LogTarget;
pub use self::config::{AccessKey, Config, FaultSettings, StoreKind, Tls};
pub use self::faults::{FaultRule, FaultRuleError, Faults, RulesError};
pub use self::shape::{Shape, ShapeError};

use self::access::AccessLog;
use self::auth::Verifier;
use self::faults::FaultLog;
use self::handler::Handler;
use self::store::{BucketRecord, Catalog, DirMedium, MemoryMedium, NullMedium, Refusal};
use self::throttle::Throttle;
use self::wire::Network;
use crate::model::object::Bucket;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Listen on loopback, or verify signatures.
    #[error("signatures may be switched off only on a loopback address, not on {0}")]
    AnonymousOutside(SocketAddr),
    /// Give an access key, or switch signatures off.
    #[error("no access key: give one, or switch signatures off on a loopback address")]
    NoAccessKey,
    /// Choose another address.
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    /// Choose other parameters.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Choose another directory, or end the server that uses it.
    #[error("cannot open the store: {0}")]
    Store(io::Error),
    /// Correct the file of rules.
    #[error("the rules of faults cannot be used: {0}")]
    Faults(#[from] RulesError),
    /// Choose another file.
    #[error("cannot write the log {}: {source}", path.display())]
    Log { path: PathBuf, source: io::Error },
    /// Check certificate and key.
    #[error("the certificate or its key cannot be used: {0}")]
    Tls(String),
}

/// A server that listens; [`run`](Self::run) makes it answer.
pub struct Server {
    listener: TcpListener,
    door: listen::Door,
    address: SocketAddr,
    /// Keeps the rules of faults equal to their file.
    watch: Option<BoxFuture<'static, ()>>,
}

impl Server {
    /// Opens the store, makes the buckets and starts to listen. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        if config.anonymous && !config.listen.ip().is_loopback() {
            return Err(ServerError::AnonymousOutside(config.listen));
        }
        if !config.anonymous && config.access_keys.is_empty() {
            return Err(ServerError::NoAccessKey);
        }
        let shape = config.shape.unwrap_or_default();
        shape.check()?;
        let network = Network::new(&shape).map(Arc::new);
        let tls = config.tls.as_ref().map(listen::acceptor).transpose()?;
        let faults = Faults::new(config.faults.rules.clone(), config.faults.seed);
        let watch =
            config.faults.file.map(|path| faults::watch(path, config.faults.rules, faults.clone())).transpose()?;
        let path = config.faults.log;
        let fault_log = FaultLog::open(path.as_deref())
            .map_err(|source| ServerError::Log { path: path.unwrap_or_default(), source })?;
        let access_log = config.access_log.map(open_log).transpose()?;
        let refused = |source| ServerError::Listen { address: config.listen, source };
        let listener = listen::listener(config.listen, network.as_deref()).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (store, buckets) = (config.store, config.buckets);
        let catalog = tokio::task::spawn_blocking(move || open_catalog(&store, &buckets)).await;
        let catalog = catalog.map_err(|error| ServerError::Store(io::Error::other(error)))??;
        let verifier = (!config.anonymous).then(|| Verifier::new(config.access_keys, config.region.clone()));
        let handler = Arc::new(Handler {
            catalog: Arc::new(catalog),
            verifier,
            region: config.region,
            scheme: if tls.is_some() { "https" } else { "http" },
            base_domain: config.base_domain,
            body_timeout: config.body_timeout,
            restore_time: config.restore_time,
            faults,
            fault_log,
            meter: Arc::default(),
            access_log,
            serves_status: config.status,
            throttle: Throttle::new(&shape),
        });
        let door = listen::Door {
            tls,
            network,
            handler,
            handshake_timeout: config.handshake_timeout,
            head_timeout: config.head_timeout,
            write_timeout: config.write_timeout,
            open: Arc::default(),
        };
        Ok(Self { listener, door, address, watch: watch.map(|watch| watch.boxed()) })
    }

    /// Where the server listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The faults in force; they may be replaced while the server runs.
    pub fn faults(&self) -> Faults {
        self.door.handler.faults.clone()
    }

    /// `http://ADDRESS` or `https://ADDRESS`.
    pub fn url(&self) -> String {
        let scheme = if self.door.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Answers until `shutdown` is done, then lets running requests finish for a moment.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let watch = self.watch.unwrap_or_else(|| pending().boxed());
        tokio::select! {
            () = watch => {}
            () = listen::run(self.listener, self.door, shutdown) => {}
        }
    }
}

fn open_log(target: LogTarget) -> Result<Arc<AccessLog>, ServerError> {
    AccessLog::open(&target).map_err(|source| {
        let path = if let LogTarget::File(path) = target { path } else { PathBuf::from("-") };
        ServerError::Log { path, source }
    })
}

fn open_catalog(store: &StoreKind, buckets: &[Bucket]) -> Result<Catalog, ServerError> {
    let catalog = match store {
        StoreKind::Dir(root) => DirMedium::open(root).and_then(|medium| Catalog::open(Box::new(medium))),
        StoreKind::Memory => Catalog::open(Box::new(MemoryMedium::default())),
        StoreKind::Null => Catalog::open(Box::new(NullMedium)),
    };
    let catalog = catalog.map_err(ServerError::Store)?;
    for bucket in buckets {
        catalog.make_bucket(bucket, BucketRecord::new()).map_err(|refusal| match refusal {
            Refusal::Io(error) => ServerError::Store(error),
            other => ServerError::Store(io::Error::other(other)),
        })?;
    }
    Ok(catalog)
}
