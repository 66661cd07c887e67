//! What each operation does, one file per subject, and the table that chooses.
//!
//! # Source
//! Specification, sections 4.1 to 4.18.

pub(crate) mod body;
mod bucket;
mod get;
mod list;
mod multipart;
mod put;
mod range;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use self::body::{Incoming, Outgoing, outgoing};
use super::auth::is_subresource;
use super::errors::{Code, Failure};
use super::request::Request;
use super::store::{Address, Catalog, Refusal};
use crate::model::object::{Bucket, Key, UploadId};

/// What an operation works with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub catalog: &'a Arc<Catalog>,
    pub region: &'a str,
    pub request: &'a Request,
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

/// Chooses by method, level and the query parameters that name a sub-resource. What is not in this table is refused.
pub(crate) async fn run(context: Context<'_>, body: &mut Incoming) -> Result<Answer, Failure> {
    let request = context.request;
    match (&request.bucket, &request.key) {
        (Some(bucket), Some(key)) => {
            let at = Address { bucket: bucket.clone(), key: key.clone() };
            on_object(context, at, body).await.map_err(|failure| match failure.code {
                Code::NoSuchKey => failure.with("Key", key),
                _ => failure,
            })
        }
        (Some(bucket), None) => on_bucket(context, bucket).await,
        (None, _) => Err(Failure::not_implemented("operations on the service")),
    }
}

async fn on_object(context: Context<'_>, at: Address, body: &mut Incoming) -> Result<Answer, Failure> {
    let request = context.request;
    let upload = request.query("uploadId").map(|id| UploadId(id.to_owned()));
    match (request.method.clone(), upload) {
        (Method::PUT, _) if request.headers.contains_key("x-oss-copy-source") => {
            Err(Failure::not_implemented("copies"))
        }
        (Method::PUT, Some(id)) => {
            only(request, &["partNumber", "uploadId"])?;
            multipart::upload_part(context, at, id, body).await
        }
        (Method::PUT, None) => {
            only(request, &[])?;
            writable(&at.key)?;
            put::put_object(context, at, body).await
        }
        (Method::POST, Some(id)) => {
            only(request, &["uploadId"])?;
            multipart::complete(context, at, id, body).await
        }
        (Method::POST, None) if request.query("uploads").is_some() => {
            only(request, &["uploads", "sequential"])?;
            writable(&at.key)?;
            multipart::initiate(context, at).await
        }
        (Method::POST, None) => Err(Failure::not_implemented("this POST")),
        (Method::GET, Some(id)) => {
            only(request, &["uploadId"])?;
            multipart::list_parts(context, at, id).await
        }
        (Method::GET | Method::HEAD, None) => {
            only(request, get::OVERRIDES)?;
            get::get_object(context, at).await
        }
        (Method::DELETE, Some(id)) => {
            only(request, &["uploadId"])?;
            multipart::abort(context, at, id).await
        }
        (Method::DELETE, None) => {
            only(request, &[])?;
            call(context.catalog, move |catalog| catalog.delete_object(&at)).await?;
            Ok(Answer::new(StatusCode::NO_CONTENT))
        }
        (method, _) => Err(not_allowed(&method)),
    }
}

async fn on_bucket(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    let request = context.request;
    match request.method {
        Method::PUT => {
            only(request, &[])?;
            bucket::put_bucket(context, bucket).await
        }
        Method::GET if request.query("uploads").is_some() => {
            only(request, &["uploads"])?;
            list::list_uploads(context, bucket).await
        }
        Method::GET if request.query("bucketInfo").is_some() => {
            only(request, &["bucketInfo"])?;
            bucket::bucket_info(context, bucket).await
        }
        Method::GET if request.query("list-type") == Some("2") => {
            only(request, &["continuation-token"])?;
            list::list_objects(context, bucket).await
        }
        Method::GET | Method::POST | Method::DELETE | Method::HEAD => {
            Err(Failure::not_implemented("this operation on a bucket"))
        }
        _ => Err(not_allowed(&request.method)),
    }
}

/// Refuses a request that selects something else than what it was taken for.
fn only(request: &Request, allowed: &[&str]) -> Result<(), Failure> {
    let known = |name: &str| allowed.contains(&name) || !is_subresource(name) || name == "x-oss-traffic-limit";
    match request.query.iter().find(|(name, _)| !known(name)) {
        Some((name, _)) => Err(Failure::not_implemented(&format!("the query parameter {name:?} here"))),
        None => Ok(()),
    }
}

fn not_allowed(method: &Method) -> Failure {
    Failure::new(Code::MethodNotAllowed, "The method is not allowed here.").with("Method", method.as_str())
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
            Refusal::NoSuchUpload => Code::NoSuchUpload,
            Refusal::AlreadyExists => Code::FileAlreadyExists,
            Refusal::PartOrder => Code::InvalidPartOrder,
            Refusal::Part(_) => Code::InvalidPart,
            Refusal::PartTooSmall { .. } => Code::EntityTooSmall,
        };
        Self::new(code, refusal.to_string())
    }
}
