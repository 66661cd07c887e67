//! Who may do what: the access control lists of buckets and objects, and the decision about a request without signature.

use http::StatusCode;

use super::{Answer, Context, Operation, call, headers};
use crate::model::object::Bucket;
use crate::server::auth::Caller;
use crate::server::errors::{Code, Failure};
use crate::server::store::{Acl, Address};
use crate::server::xml::Document;

const HEADER: &str = "x-oss-object-acl";

/// The owner may do everything; others read what is public and write where a bucket lets everybody.
///
/// # Errors
/// `AccessDenied`.
pub(super) fn check(operation: Operation, context: Context<'_>) -> Result<(), Failure> {
    if context.caller == Caller::Owner {
        return Ok(());
    }
    let Some(bucket) = &context.request.bucket else { return Err(anonymous_denied()) };
    let of_bucket = context.catalog.bucket(bucket)?.acl;
    let key = context.request.key.as_ref();
    let object = key.and_then(|key| context.catalog.object(&Address { bucket: bucket.clone(), key: key.clone() }).ok());
    let of_object = object.as_ref().and_then(|object| object.header(HEADER)).and_then(Acl::parse);
    let allowed = match of_object.unwrap_or(of_bucket) {
        Acl::Private => false,
        Acl::PublicRead => operation.reads_object(),
        Acl::PublicReadWrite => operation.reads_object() || operation.writes_object(),
    };
    let overrides = context.request.query.iter().any(|(name, _)| name.starts_with("response-"));
    if allowed && !overrides { Ok(()) } else { Err(anonymous_denied()) }
}

pub(crate) fn anonymous_denied() -> Failure {
    Failure::new(Code::AccessDenied, "You have no right to access this object because of bucket acl.")
}

pub(super) async fn put_object_acl(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let acl = headers::choice(context.request, HEADER)?.map(str::to_owned);
    let acl = acl.ok_or_else(|| missing(HEADER))?;
    call(context.catalog, move |catalog| catalog.amend_object(&at, |kept| headers::set(kept, HEADER, Some(acl))))
        .await?;
    Ok(Answer::new(StatusCode::OK))
}

fn missing(header: &str) -> Failure {
    let message = format!("{header} is missing: it names the new access control list.");
    Failure::new(Code::MissingArgument, message).with("ArgumentName", header)
}

pub(super) async fn get_object_acl(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let object = context.catalog.object(&at)?;
    Ok(policy(object.header(HEADER).unwrap_or("default")))
}

pub(super) async fn put_bucket_acl(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    let acl = headers::bucket_acl(context.request)?;
    let acl = acl.ok_or_else(|| missing("x-oss-acl"))?;
    let bucket = bucket.clone();
    call(context.catalog, move |catalog| catalog.amend_bucket(&bucket, |record| record.acl = acl)).await?;
    Ok(Answer::new(StatusCode::OK))
}

pub(super) async fn get_bucket_acl(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    Ok(policy(context.catalog.bucket(bucket)?.acl.name()))
}

fn policy(grant: &str) -> Answer {
    let mut xml = Document::new("AccessControlPolicy");
    xml.owner();
    xml.open("AccessControlList");
    xml.text("Grant", grant);
    xml.close("AccessControlList");
    Answer::new(StatusCode::OK).xml(xml.finish())
}
