//! What is said to an object store: operations as data, signed requests, answers read. No sockets, no clocks: time and
//! credentials are arguments.
//!
//! | folder | subject |
//! |---|---|
//! | `operations/` | one file per operation: what is asked, and what the answer means |
//! | `oss/` | what only OSS does so: addresses, header names, signatures, errors |
//! | `xml.rs` | documents |
//! | `options.rs` | what may be said about an object |
//! | `redact.rs`, `shown.rs` | what may be shown of an answer |
//! | `credentials/` | who asks |

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use sha2::{Digest, Sha256};

use crate::model::object::{Bucket, Description, ETag, Key};
use crate::model::part::Limits;
use crate::model::retry::Fault;
use crate::model::settings::{ClientSettings, ObjectOptions};

pub mod credentials;
pub mod operations;
pub mod options;
pub mod oss;
pub mod redact;
mod shown;
mod xml;

pub use oss::address::AddressError;

use credentials::Credentials;
use options::OptionsError;

/// One request, before it is addressed and signed.
pub struct Call<'a> {
    pub method: Method,
    pub bucket: &'a Bucket,
    /// `None` for the bucket itself.
    pub key: Option<&'a Key>,
    /// Names and values, not encoded; an empty value is sent as the bare name.
    pub query: Vec<(&'static str, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl<'a> Call<'a> {
    /// A request without query, headers or body.
    pub fn new(method: Method, bucket: &'a Bucket, key: Option<&'a Key>) -> Self {
        Self { method, bucket, key, query: Vec::new(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }
}

/// Something that can be asked of an object store.
pub trait Operation {
    /// For events and errors.
    const NAME: &'static str;
    type Reply;

    fn call<'a>(&'a self, dialect: &dyn Dialect) -> Call<'a>;

    /// Reads an answer whose status is a success.
    ///
    /// # Errors
    /// A fault, if the answer is not what the operation promises.
    fn read(&self, dialect: &dyn Dialect, response: &Response<Bytes>) -> Result<Self::Reply, Fault>;

    /// The reply that a refusal amounts to, if it is no failure of this operation.
    fn forgive(&self, _fault: &Fault) -> Option<Self::Reply> {
        None
    }
}

/// Which request a description of the object goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Put,
    Initiate,
    UploadPart,
    Complete,
}

/// What the headers of an answer say, whatever the store calls them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    pub request_id: Option<String>,
    pub version_id: Option<String>,
    /// `None` if the store named no checksum, or none that is a number.
    pub crc64: Option<u64>,
    pub object_type: Option<String>,
    pub storage_class: Option<String>,
    /// User metadata: names without prefix, sorted.
    pub metadata: Vec<(String, String)>,
}

/// The difference between stores: multipart has the same verbs everywhere.
pub trait Dialect: Send + Sync {
    fn limits(&self) -> Limits;

    /// Writes what `options` say onto the request of `stage`; `key` tells the content type if nothing else does.
    fn describe(&self, options: &ObjectOptions, key: &Key, stage: Stage, headers: &mut HeaderMap);

    fn marks(&self, headers: &HeaderMap) -> Marks;

    /// The tag of an object that is joined of parts with these tags, if a rule tells; `headers`: those of the answer.
    fn joined_etag(&self, parts: &[&ETag], headers: &HeaderMap) -> Option<ETag>;

    /// What an answer without success means.
    fn fault(&self, response: &Response<Bytes>) -> Fault;

    /// The fault of a success that somebody else than the store has answered, if it shows.
    fn not_of_the_store(&self, response: &Response<Bytes>) -> Option<Fault>;

    /// The fault in an answer that has a success for its status and an error for its body, if that is what it is.
    fn fault_in_success(&self, body: &[u8]) -> Option<Fault>;

    /// Addresses a call and signs it for time `at`. Without credentials it stays unsigned.
    fn request(&self, call: Call<'_>, credentials: Option<&Credentials>, at: SystemTime) -> Request<Bytes>;
}

/// An object store, and how it is spoken to.
#[derive(Clone)]
pub struct Store {
    endpoint: Arc<str>,
    dialect: Arc<dyn Dialect>,
}

impl Store {
    /// # Errors
    /// [`AddressError`] for an endpoint that is no address, or one that gives no region where one is needed.
    pub fn new(settings: &ClientSettings) -> Result<Self, AddressError> {
        let oss = oss::Oss::new(settings)?;
        Ok(Self { endpoint: oss.endpoint().into(), dialect: Arc::new(oss) })
    }

    /// `scheme://host[:port]`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn limits(&self) -> Limits {
        self.dialect.limits()
    }

    /// Checks what is said about an object, before anything is sent.
    ///
    /// # Errors
    /// [`OptionsError`] names the first value that the store would refuse.
    pub fn check(&self, options: &ObjectOptions) -> Result<(), OptionsError> {
        options::check(options)
    }

    /// What the request of `stage` says about the object. What it says of an object that is there already is no part of it.
    pub fn description(&self, options: &ObjectOptions, key: &Key, stage: Stage) -> Description {
        let options = ObjectOptions { forbid_overwrite: false, ..options.clone() };
        let mut headers = HeaderMap::new();
        self.dialect.describe(&options, key, stage, &mut headers);
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), digest(value.as_bytes()))).collect()
    }

    /// The request, with an absolute URI, signed for time `at`. Call it when the request is about to be sent.
    pub fn request<O: Operation>(
        &self,
        operation: &O,
        credentials: Option<&Credentials>,
        at: SystemTime,
    ) -> Request<Bytes> {
        self.dialect.request(operation.call(&*self.dialect), credentials, at)
    }

    /// What the answer means.
    ///
    /// # Errors
    /// A fault for every refusal that the operation does not forgive, and for answers that are not of the protocol.
    pub fn reply<O: Operation>(&self, operation: &O, response: &Response<Bytes>) -> Result<O::Reply, Fault> {
        if response.status().is_success() {
            if let Some(fault) = self.dialect.not_of_the_store(response) {
                return Err(fault);
            }
            return operation.read(&*self.dialect, response);
        }
        let fault = self.dialect.fault(response);
        operation.forgive(&fault).ok_or(fault)
    }
}

/// The first 64 bits of the SHA-256.
fn digest(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    u64::from_be_bytes(*digest.first_chunk().expect("it has 32 bytes"))
}
