//! What to serve, and how: plain data.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::access::LogTarget;
use super::faults::FaultRule;
use super::shape::Shape;
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
    /// Longest time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Longest wait for the whole head of a request, since the connection was opened or the last answer was sent: idle
    /// connections end with it too.
    pub head_timeout: Duration,
    /// Longest wait for more of a request's body.
    pub body_timeout: Duration,
    /// Longest wait for a client to take more of an answer.
    pub write_timeout: Duration,
    /// How long restoring an archived object takes; 2 seconds unless given. The service needs minutes to hours.
    pub restore_time: Duration,
    /// The network and the limits to be slowed down by; `None` for as fast as it goes.
    pub shape: Option<Shape>,
    pub faults: FaultSettings,
    /// Where every request is noted, one JSON line each; nowhere unless given.
    pub access_log: Option<LogTarget>,
    /// Answer to `/_haul/` with a status page, for this machine only.
    pub status: bool,
}

/// What goes wrong on demand. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct FaultSettings {
    pub rules: Vec<FaultRule>,
    /// More rules, one a line; read again whenever the file changes, and counted anew then.
    pub file: Option<PathBuf>,
    /// Chooses which requests a share such as `10%` harms; the same seed chooses the same ones.
    pub seed: u64,
    /// Where each fault is noted, one JSON line each; the file is appended to.
    pub log: Option<PathBuf>,
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
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            restore_time: Duration::from_secs(2),
            faults: FaultSettings::default(),
            access_log: None,
            status: false,
            write_timeout: Duration::from_secs(30),
            shape: None,
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
    /// When the token ends; `None` for never.
    pub token_expires: Option<SystemTime>,
}

impl AccessKey {
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), secret: Zeroizing::new(secret.into()), security_token: None, token_expires: None }
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
