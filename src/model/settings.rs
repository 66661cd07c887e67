//! What a caller may choose, as plain data with defaults.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::object::{Bucket, Key};
use super::retry::RetryPolicy;

/// Signature algorithm. V1 is no longer offered to new accounts (specification, section 2.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signature {
    /// HMAC-SHA1.
    V1,
    /// HMAC-SHA256 over a canonical request; needs a region.
    #[default]
    V4,
}

/// Where the bucket stands in a request (specification, section 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// `BUCKET.ENDPOINT/KEY`.
    Virtual,
    /// `ENDPOINT/BUCKET/KEY`: IP endpoints, private deployments and the embedded store.
    Path,
    /// The endpoint is a domain bound to the bucket.
    Cname,
}

/// Which proxy stands between this machine and the endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Proxy {
    /// `https_proxy`, `http_proxy`, `all_proxy` and `no_proxy`, else the same in upper case; an empty one counts as unset.
    #[default]
    Environment,
    /// This one for every request; may carry `user:password@`.
    Url(String),
    /// None, whatever the environment says.
    None,
}

/// An object store and how to reach it.
#[derive(Clone)]
pub struct ClientSettings {
    /// Host, `host:port` or URL; `https` when no scheme is given.
    pub endpoint: String,
    /// What checkpoints call this endpoint. Default: the endpoint itself. Set it when the address changes from run to
    /// run though the store behind it is the same.
    pub endpoint_name: Option<String>,
    /// Region for V4. Default: from the endpoint's name.
    pub region: Option<String>,
    pub signature: Signature,
    /// Default: by path for IP addresses and `localhost`, else virtual.
    pub addressing: Option<Addressing>,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_cert: Option<PathBuf>,
    /// What that file holds, if it was read already: a pipe can be read only once. Default: it is read for each client.
    pub ca_pem: Option<Arc<[u8]>>,
    pub proxy: Proxy,
    /// Time for name resolution, TCP and TLS together. Default 10 s.
    pub connect_timeout: Duration,
    /// Longest time without progress, from 1 s. A request in which less than 1 KiB/s moves for so long, or whose answer
    /// does not begin within it (and a second for every 64 KiB of its body, 80 s at most), is tried again. Default 60 s.
    pub idle_timeout: Duration,
    /// When what failed is tried again.
    pub retry: RetryPolicy,
    /// Threads that move packets and compute checksums. Default: one per core that the process may use, by its affinity and
    /// its control group's quota, at most 4.
    pub threads: usize,
    /// Bytes of pooled buffers that all transfers of a client share. Default 32 MiB.
    pub buffer_bytes: usize,
    /// Bytes that the client may hold in buffers and connections: bounds `buffer_bytes`, the parts in flight and what stays
    /// mapped of files. Default: a quarter of what the control group of the process allows, if it has a limit.
    pub memory: Option<u64>,
    /// Bytes per second that all transfers of a client together send at most, headers included and TLS not; from 1,024 for
    /// each part in flight. Default: no limit.
    pub max_rate: Option<u64>,
    /// Processor time that the whole process takes at most while it sends, in percent of one core: 100 is a whole one. Kept
    /// over about a second, by sending later. Default: no limit.
    pub max_cpu: Option<u32>,
    /// Whether transfers tell at their end where their time went ([`super::event::Event::Explained`]). The kernel then takes
    /// fewer bytes ahead of the network, which costs some CPU. Default: no.
    pub explain: bool,
}

impl ClientSettings {
    /// Defaults for `endpoint`.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            endpoint_name: None,
            region: None,
            signature: Signature::default(),
            addressing: None,
            ca_cert: None,
            ca_pem: None,
            proxy: Proxy::default(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            retry: RetryPolicy::default(),
            threads: std::thread::available_parallelism().map_or(1, |n| n.get().min(4)),
            buffer_bytes: 32 << 20,
            memory: None,
            max_rate: None,
            max_cpu: None,
            explain: false,
        }
    }
}

/// A proxy URL may hold a password, so it is left out.
impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("signature", &self.signature)
            .field("addressing", &self.addressing)
            .finish_non_exhaustive()
    }
}

/// What is said about an object when it is made. Each goes on the operation that the specification names (sections 4.1,
/// 4.9, 4.14 and 8).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectOptions {
    /// Default: guessed from the extension of the key, else `application/octet-stream`.
    pub content_type: Option<String>,
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    /// `x-oss-meta-*`: names without the prefix.
    pub metadata: Vec<(String, String)>,
    /// `Standard`, `IA`, `Archive`, `ColdArchive` or `DeepColdArchive`.
    pub storage_class: Option<String>,
    /// `default`, `private`, `public-read` or `public-read-write`.
    pub acl: Option<String>,
    /// At most 10.
    pub tags: Vec<(String, String)>,
    /// Refuse to replace an existing object.
    pub forbid_overwrite: bool,
    /// Server-side encryption: `AES256`, `KMS` or `SM4`.
    pub sse: Option<String>,
    pub sse_key_id: Option<String>,
    /// JSON of the callback, not yet base64.
    pub callback: Option<String>,
    /// JSON of the callback's variables, not yet base64.
    pub callback_var: Option<String>,
    /// Rate per request in bit/s: 819,200 to 838,860,800.
    pub traffic_limit: Option<u64>,
}

/// Length of the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PartSize {
    /// From the length of the file: see [`super::part::PartPlan::auto_part_bytes`].
    #[default]
    Auto,
    /// In bytes: 100 KiB to 5 GiB.
    Bytes(u64),
}

/// How many parts are in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Parallel {
    /// As many as the line to the endpoint is found to need, up to 256 and half of
    /// the files that the process may open; all transfers of a client share the number.
    #[default]
    Auto,
    /// Within [`Parallel::PARTS`]: 1 to 1024.
    #[serde(untagged)]
    Parts(u32),
}

impl Parallel {
    /// How many parts a caller may ask for.
    pub const PARTS: std::ops::RangeInclusive<u32> = 1..=1024;
}

impl fmt::Display for Parallel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Parts(parts) => parts.fmt(f),
        }
    }
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReaderKind {
    Mmap,
    Uring,
    Pread,
}

impl fmt::Display for ReaderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mmap => "mmap",
            Self::Uring => "uring",
            Self::Pread => "pread",
        })
    }
}

/// Where the durable memory of a transfer lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CheckpointAt {
    /// `<file>.cp`, beside the file; with a hash before the `.cp` if the file's name is not UTF-8.
    #[default]
    BesideFile,
    Path(PathBuf),
    /// In this directory, which must exist, under a name made of the file's name and a hash of file and destination.
    Directory(PathBuf),
    /// Nowhere: a failed upload starts from nothing.
    Off,
}

/// What becomes of an upload whose file changes while it is read. No object is made of two states of a file either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfChanged {
    /// It ends with [`crate::source::SourceError::Changed`]. What was sent is aborted by the next run.
    #[default]
    Fail,
    /// What was sent is aborted, and the file sent from the start as it is now, up to 5 times.
    Restart,
}

/// One upload, as a caller wants it.
#[derive(Debug, Clone)]
pub struct UploadRequest {
    pub file: PathBuf,
    pub bucket: Bucket,
    pub key: Key,
    pub options: ObjectOptions,
    pub part_size: PartSize,
    pub parallel: Parallel,
    /// `None`: chosen by what is in the page cache and what the machine allows.
    pub reader: Option<ReaderKind>,
    /// How much of the file is read, checked and handed to a connection at a time, in bytes: a power of two from
    /// 64 KiB to 2 MiB. `None`, and the most: what the reader takes, 2 MiB if the file is mapped, else 512 KiB.
    pub chunk_bytes: Option<u32>,
    pub checkpoint: CheckpointAt,
    pub if_changed: IfChanged,
    /// Whether the file is read once more, from the disk, when the object is stored, and compared with it. Default: no.
    pub verify_reread: bool,
    /// Where a [`super::receipt::Receipt`] is written when all is done. Default: nowhere.
    pub receipt: Option<PathBuf>,
    /// The profile that some of these settings were taken from, to be named in [`super::event::Event::Planned`].
    pub tuned: Option<PathBuf>,
}

impl UploadRequest {
    /// Whether [`UploadRequest::chunk_bytes`] may be so many: a power of two from 64 KiB to 2 MiB.
    pub fn takes_chunks_of(bytes: u32) -> bool {
        bytes.is_power_of_two() && (64 << 10..=2 << 20).contains(&bytes)
    }

    /// Defaults for sending `file` to `bucket/key`.
    pub fn new(file: impl AsRef<Path>, bucket: Bucket, key: Key) -> Self {
        Self {
            file: file.as_ref().to_owned(),
            bucket,
            key,
            options: ObjectOptions::default(),
            part_size: PartSize::Auto,
            parallel: Parallel::Auto,
            reader: None,
            chunk_bytes: None,
            checkpoint: CheckpointAt::BesideFile,
            if_changed: IfChanged::default(),
            verify_reread: false,
            receipt: None,
            tuned: None,
        }
    }
}
