//! The embedded OSS: an object store that official clients accept, in this process or on its own.
//!
//! It promises that a signature is verified with code of its own, that bodies are streamed with bounded memory, and
//! that what a [`StoreKind::Dir`] store acknowledged is still there after a kill, a restart or a power loss.
//!
//! | file | what it is |
//! |---|---|
//! | `listen` | connections: TCP, TLS, deadlines, shutdown |
//! | `handler` | one request: address, signature, dispatch, common headers |
//! | `request`, `auth` | what a request addresses, and who sent it |
//! | `operations` | what each operation does, one file per subject |
//! | `store` | the catalog of buckets, objects and uploads, over a medium: directory, memory, nothing |
//! | `errors`, `xml` | refusals and documents |

mod auth;
mod errors;
mod handler;
mod listen;
mod operations;
mod request;
mod store;
mod xml;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use zeroize::Zeroizing;

use self::auth::Verifier;
use self::handler::Handler;
use self::store::{Catalog, DirMedium, MemoryMedium, NullMedium, Refusal};
use crate::model::object::Bucket;

/// What to serve, and how.
pub struct Config {
    pub store: StoreKind,
    /// Port 0 takes any free port; see [`Server::local_addr`].
    pub listen: SocketAddr,
    /// Who may sign. May be empty only with `anonymous`.
    pub access_keys: Vec<AccessKey>,
    /// The region that version 4 signatures must name, such as `cn-hangzhou`.
    pub region: String,
    /// `BUCKET.base_domain` as host addresses a bucket; every other host means that the path does.
    pub base_domain: String,
    /// Made at start unless they exist.
    pub buckets: Vec<Bucket>,
    pub tls: Option<Tls>,
    /// Signatures are not looked at. Refused unless `listen` is a loopback address.
    pub anonymous: bool,
    /// Longest wait for more of a request's body.
    pub body_timeout: Duration,
}

impl Default for Config {
    /// A store in memory on a free loopback port, with no key yet.
    fn default() -> Self {
        Self {
            store: StoreKind::Memory,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            access_keys: Vec::new(),
            region: "cn-hangzhou".to_owned(),
            base_domain: "localhost".to_owned(),
            buckets: Vec::new(),
            tls: None,
            anonymous: false,
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// In a directory, durably.
    Dir(PathBuf),
    /// In memory, until the server ends.
    Memory,
    /// Sizes and CRC64 only: measures clients without slowing them down.
    Null,
}

/// One who may sign.
#[derive(Clone)]
pub struct AccessKey {
    pub id: String,
    pub secret: Zeroizing<String>,
    /// Required of every request of this key, if given.
    pub security_token: Option<Zeroizing<String>>,
}

impl AccessKey {
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), secret: Zeroizing::new(secret.into()), security_token: None }
    }

    /// A key that nobody can guess, for a server that only this process talks to.
    pub fn random() -> Self {
        let mut bytes = [0; 24];
        let filled = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes);
        filled.expect("the system has random bytes");
        let secret = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Self::new("haul-local", secret)
    }
}

/// Certificate chain and private key, as PEM text.
pub struct Tls {
    pub certificates_pem: Vec<u8>,
    pub key_pem: Zeroizing<Vec<u8>>,
}

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
    /// Choose another directory, or end the server that uses it.
    #[error("cannot open the store: {0}")]
    Store(io::Error),
    /// Check certificate and key.
    #[error("the certificate or its key cannot be used: {0}")]
    Tls(String),
}

/// A server that listens; [`run`](Self::run) makes it answer.
pub struct Server {
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    handler: Arc<Handler>,
    address: SocketAddr,
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
        let tls = config.tls.as_ref().map(listen::acceptor).transpose()?;
        let refused = |source| ServerError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (store, buckets) = (config.store, config.buckets);
        let catalog = tokio::task::spawn_blocking(move || open_catalog(&store, &buckets)).await;
        let catalog = catalog.map_err(|error| ServerError::Store(io::Error::other(error)))??;
        let verifier = (!config.anonymous).then(|| Verifier::new(config.access_keys, config.region.clone()));
        let handler = Handler {
            catalog: Arc::new(catalog),
            verifier,
            region: config.region,
            base_domain: config.base_domain,
            body_timeout: config.body_timeout,
        };
        Ok(Self { listener, tls, handler: Arc::new(handler), address })
    }

    /// Where the server listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS` or `https://ADDRESS`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Answers until `shutdown` is done, then lets running requests finish for a moment.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        listen::run(self.listener, self.tls, self.handler, shutdown).await;
    }
}

fn open_catalog(store: &StoreKind, buckets: &[Bucket]) -> Result<Catalog, ServerError> {
    let catalog = match store {
        StoreKind::Dir(root) => DirMedium::open(root).and_then(|medium| Catalog::open(Box::new(medium))),
        StoreKind::Memory => Catalog::open(Box::new(MemoryMedium::default())),
        StoreKind::Null => Catalog::open(Box::new(NullMedium)),
    };
    let catalog = catalog.map_err(ServerError::Store)?;
    for bucket in buckets {
        catalog.make_bucket(bucket).map_err(|refusal| match refusal {
            Refusal::Io(error) => ServerError::Store(error),
            other => ServerError::Store(io::Error::other(other)),
        })?;
    }
    Ok(catalog)
}
