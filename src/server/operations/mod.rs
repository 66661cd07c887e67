//! What each operation does, one file per subject, and the table that chooses.
//!
//! # Source
//! Specification, sections 4.1 to 4.18.

mod acl;
pub(crate) mod body;
mod bucket;
mod callback;
mod conditions;
mod copy;
mod delete;
mod get;
mod headers;
mod list;
mod multipart;
mod put;
mod range;
mod restore;
mod symlink;
mod table;
mod tagging;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

pub(crate) use self::acl::anonymous_denied;
use self::body::Incoming;
pub(crate) use self::table::Operation;
use super::auth::Caller;
use super::errors::{Code, Failure};
use super::outgoing::{Outgoing, outgoing};
use super::request::Request;
use super::store::{Address, Catalog, Refusal};
use crate::model::object::{Bucket, Key, UploadId};
use crate::model::part::Limits;

/// What an operation works with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub catalog: &'a Arc<Catalog>,
    pub region: &'a str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// How long restoring an archived object takes.
    pub restore_time: Duration,
    pub request: &'a Request,
    pub caller: Caller,
}

/// An answer before the headers that all answers have.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Outgoing,
    /// What `Content-Length` says: on HEAD more than the body has. `None` if something else says it.
    pub bytes: Option<u64>,
}

impl Answer {
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: outgoing(bytes::Bytes::new()), bytes: Some(0) }
    }

    /// Sets a header; text that cannot be one is left out.
    pub fn set(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            self.headers.insert(name, value);
        }
    }
}

/// Does what the request asks for, if its sender may.
pub(crate) async fn run(operation: Operation, context: Context<'_>, body: &mut Incoming) -> Result<Answer, Failure> {
    acl::check(operation, context)?;
    let request = context.request;
    let outcome = match (&request.bucket, &request.key) {
        (Some(bucket), Some(key)) => {
            let at = Address { bucket: bucket.clone(), key: key.clone() };
            on_object(operation, context, at, body).await
        }
        (Some(bucket), None) => on_bucket(operation, context, bucket, body).await,
        (None, _) => bucket::list_buckets(context).await,
    };
    let mut answer = outcome.map_err(|failure| named(failure, operation, request))?;
    // Who names the version that there is hears its name again.
    request.query("versionId").into_iter().for_each(|id| answer.set("x-oss-version-id", id));
    Ok(answer)
}

/// A failure that says what is missing, unless it does already.
fn named(failure: Failure, operation: Operation, request: &Request) -> Failure {
    let missing = match failure.code {
        Code::NoSuchBucket => ("BucketName", request.bucket.as_ref().map(Bucket::as_str)),
        Code::NoSuchKey => ("Key", request.key.as_deref()),
        Code::NoSuchUpload if operation == Operation::UploadPart => {
            return failure.ec("0042-00000104").with("UploadId", request.query("uploadId").unwrap_or_default());
        }
        Code::NoSuchUpload => ("UploadId", request.query("uploadId")),
        _ => return failure,
    };
    match missing {
        (element, Some(name)) if failure.details.is_empty() => failure.with(element, name),
        _ => failure,
    }
}

async fn on_object(
    operation: Operation,
    context: Context<'_>,
    at: Address,
    body: &mut Incoming,
) -> Result<Answer, Failure> {
    if MAKES_OBJECT.contains(&operation) {
        writable(&at.key)?;
    }
    let upload = || UploadId(context.request.query("uploadId").unwrap_or_default().to_owned());
    match operation {
        Operation::PutObject => put::put_object(context, at, body).await,
        Operation::CopyObject => copy::copy_object(context, at).await,
        Operation::AppendObject => put::append_object(context, at, body).await,
        Operation::GetObject => get::get_object(context, at).await,
        Operation::HeadObject => get::head_object(context, at).await,
        Operation::GetObjectMeta => get::get_object_meta(context, at).await,
        Operation::DeleteObject => delete::delete_object(context, at).await,
        Operation::InitiateMultipartUpload => multipart::initiate(context, at).await,
        Operation::UploadPart => multipart::upload_part(context, at, upload(), body).await,
        Operation::UploadPartCopy => {
            let number = multipart::part_number(context.request)?;
            copy::upload_part_copy(context, at, upload(), number).await
        }
        Operation::ListParts => multipart::list_parts(context, at, upload()).await,
        Operation::CompleteMultipartUpload => multipart::complete(context, at, upload(), body).await,
        Operation::AbortMultipartUpload => multipart::abort(context, at, upload()).await,
        Operation::PutObjectAcl => acl::put_object_acl(context, at).await,
        Operation::GetObjectAcl => acl::get_object_acl(context, at).await,
        Operation::PutObjectTagging => tagging::put_tagging(context, at, body).await,
        Operation::GetObjectTagging => tagging::get_tagging(context, at).await,
        Operation::DeleteObjectTagging => tagging::delete_tagging(context, at).await,
        Operation::PutSymlink => symlink::put_symlink(context, at).await,
        Operation::GetSymlink => symlink::get_symlink(context, at).await,
        Operation::RestoreObject => restore::restore_object(context, at, body).await,
        other => Err(Failure::not_implemented(other.name())),
    }
}

const MAKES_OBJECT: &[Operation] = &[
    Operation::PutObject,
    Operation::CopyObject,
    Operation::AppendObject,
    Operation::InitiateMultipartUpload,
    Operation::PutSymlink,
];

async fn on_bucket(
    operation: Operation,
    context: Context<'_>,
    bucket: &Bucket,
    body: &mut Incoming,
) -> Result<Answer, Failure> {
    match operation {
        Operation::HeadBucket => bucket::head_bucket(context, bucket).await,
        Operation::PutBucket => bucket::put_bucket(context, bucket, body).await,
        Operation::DeleteBucket => bucket::delete_bucket(context, bucket).await,
        Operation::GetBucketInfo => bucket::bucket_info(context, bucket).await,
        Operation::GetBucketLocation => bucket::location(context, bucket).await,
        Operation::GetBucketStat => bucket::stat(context, bucket).await,
        Operation::PutBucketAcl => acl::put_bucket_acl(context, bucket).await,
        Operation::GetBucketAcl => acl::get_bucket_acl(context, bucket).await,
        Operation::ListObjects => list::list_objects(context, bucket).await,
        Operation::ListObjectsV2 => list::list_objects_v2(context, bucket).await,
        Operation::ListObjectVersions => list::list_versions(context, bucket).await,
        Operation::GetBucketVersioning => bucket::versioning(context, bucket).await,
        Operation::ListMultipartUploads => list::list_uploads(context, bucket).await,
        Operation::DeleteMultipleObjects => delete::delete_multiple(context, bucket, body).await,
        other => Err(Failure::not_implemented(other.name())),
    }
}

/// Names are checked where something is made, not where it is looked for.
fn writable(key: &str) -> Result<(), Failure> {
    let refused =
        |_| Failure::new(Code::InvalidObjectName, "A key has 1 to 1023 bytes and does not start with / or \\.");
    Key::new(key).map(drop).map_err(refused)
}

/// Runs `job` where it may wait for a disk.
pub(crate) async fn call<T: Send + 'static, E: Into<Failure> + Send + 'static>(
    catalog: &Arc<Catalog>,
    job: impl FnOnce(&Catalog) -> Result<T, E> + Send + 'static,
) -> Result<T, Failure> {
    if !catalog.waits() {
        return job(catalog).map_err(Into::into);
    }
    let catalog = catalog.clone();
    match tokio::task::spawn_blocking(move || job(&catalog)).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(error) => Err(std::io::Error::other(error).into()),
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Io(error) => return error.into(),
            Refusal::NoSuchBucket => Code::NoSuchBucket,
            Refusal::NoSuchKey => Code::NoSuchKey,
            // Whoever began a damaged upload begins another, as after one that is gone.
            Refusal::NoSuchUpload | Refusal::DamagedUpload => Code::NoSuchUpload,
            Refusal::DamagedObject => Code::InvalidObjectState,
            Refusal::BucketExists => Code::BucketAlreadyExists,
            Refusal::BucketNotEmpty => Code::BucketNotEmpty,
            Refusal::AlreadyExists => Code::FileAlreadyExists,
            Refusal::NotAppendable => Code::ObjectNotAppendable,
            Refusal::Position { bytes } => {
                let failure = Self::new(Code::PositionNotEqualToLength, refusal.to_string());
                return failure.header("x-oss-next-append-position", bytes.to_string());
            }
            Refusal::PartOrder => Code::InvalidPartOrder,
            Refusal::PartNotSequential(number) => {
                return Self::new(Code::PartNotSequential, refusal.to_string()).with("PartNumber", number.to_string());
            }
            Refusal::PartExists { number, ref etag } => {
                let failure = Self::new(Code::PartAlreadyExist, refusal.to_string());
                return failure.with("PartNumber", number.to_string()).with("PartEtag", format!("\"{etag}\""));
            }
            Refusal::Part(number) => {
                return Self::new(Code::InvalidPart, refusal.to_string()).with("PartNumber", number.to_string());
            }
            Refusal::PartTooSmall { number, bytes } => {
                let failure = Self::new(Code::EntityTooSmall, refusal.to_string());
                let failure = failure.with("ProposedSize", bytes.to_string()).with("PartNumber", number.to_string());
                return failure.with("MinSizeAllowed", Limits::OSS.part_bytes_min.to_string());
            }
        };
        Self::new(code, refusal.to_string())
    }
}
