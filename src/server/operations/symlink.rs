//! PutSymlink and GetSymlink, and reading through a link. A link leads to an object of the same bucket, and only one
//! step: a link to a link is refused where it is read.

use std::sync::Arc;

use http::StatusCode;
use percent_encoding::utf8_percent_encode;

use super::headers::{decoded, forbids_overwrite, kept_headers};
use super::{Answer, Context, call, writable};
use crate::server::access::http_date;
use crate::server::errors::{Code, Failure};
use crate::server::store::{Address, Checksums, Kind, NewObject, Object};
use crate::server::xml::ENCODED;

/// Where the target is kept, decoded.
pub(super) const TARGET: &str = "x-oss-symlink-target";

pub(super) async fn put_symlink(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let request = context.request;
    let target = request.header(TARGET).and_then(decoded);
    let target = target.ok_or_else(|| Failure::argument(TARGET, "", "It is the percent-encoded key of the target."))?;
    writable(&target)?;
    let mut headers = kept_headers(context, &at.bucket)?;
    headers.push((TARGET.to_owned(), target));
    let keep = forbids_overwrite(request)?;
    let new = NewObject { sums: Checksums::new(true).finish(), headers, kind: Kind::Symlink };
    let object = call(context.catalog, move |catalog| {
        let mut blob = catalog.blob()?;
        blob.sync()?;
        catalog.put_object(&at, blob, new, keep)
    })
    .await?;
    let mut answer = Answer::new(StatusCode::OK);
    answer.set("etag", &format!("\"{}\"", object.etag));
    Ok(answer)
}

pub(super) async fn get_symlink(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let link = context.catalog.object(&at)?;
    let refused = || Failure::new(Code::NotSymlink, "The object is not a symbolic link.");
    let target = link.header(TARGET).ok_or_else(refused)?;
    let mut answer = Answer::new(StatusCode::OK);
    let metadata = link.headers.iter().filter(|(name, _)| name.starts_with("x-oss-meta-"));
    metadata.for_each(|(name, value)| answer.set(name, value));
    answer.set(TARGET, &utf8_percent_encode(target, ENCODED).to_string());
    answer.set("etag", &format!("\"{}\"", link.etag));
    answer.set("last-modified", &http_date(link.modified));
    Ok(answer)
}

/// Where the object leads to, if it is a link.
pub(super) fn target_of(context: Context<'_>, at: &Address) -> Result<Option<Address>, Failure> {
    let object = context.catalog.object(at)?;
    let target = object.header(TARGET).filter(|_| object.kind == Kind::Symlink);
    Ok(target.map(|key| Address { bucket: at.bucket.clone(), key: key.to_owned() }))
}

/// The object, or what is seen through it.
pub(super) fn followed(context: Context<'_>, at: &Address) -> Result<Arc<Object>, Failure> {
    match target_of(context, at)? {
        None => Ok(context.catalog.object(at)?),
        Some(to) => {
            let target = context.catalog.object(&to).map_err(|refusal| dangling(refusal.into(), true))?;
            seen_through(context, at, &target)
        }
    }
}

/// The target with the type and the time of the link.
pub(super) fn seen_through(context: Context<'_>, at: &Address, target: &Object) -> Result<Arc<Object>, Failure> {
    if target.kind == Kind::Symlink {
        return Err(wrong_type("A symbolic link must not lead to another one."));
    }
    let link = context.catalog.object(at)?;
    Ok(Arc::new(Object { kind: Kind::Symlink, modified: link.modified, ..target.clone() }))
}

fn wrong_type(message: &str) -> Failure {
    Failure::new(Code::InvalidTargetType, message)
}

/// A missing key behind a link is a missing target.
pub(super) fn dangling(failure: Failure, through_link: bool) -> Failure {
    match failure.code {
        Code::NoSuchKey if through_link => {
            Failure::new(Code::SymlinkTargetNotExist, "The target of the symbolic link does not exist.")
        }
        _ => failure,
    }
}
