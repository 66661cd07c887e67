//! DeleteObject and DeleteMultipleObjects.

use http::StatusCode;

use super::body::Incoming;
use super::{Answer, Context, call};
use crate::model::object::Bucket;
use crate::server::errors::{Code, Failure};
use crate::server::store::Address;
use crate::server::xml::{DeleteObject, Document, parse_delete};

/// Most keys of one request (section 4.0).
const KEYS_MAX: usize = 1000;

/// Done whether or not there is such an object.
pub(super) async fn delete_object(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    call(context.catalog, move |catalog| catalog.delete_object(&at)).await?;
    Ok(Answer::new(StatusCode::NO_CONTENT))
}

pub(super) async fn delete_multiple(
    context: Context<'_>,
    bucket: &Bucket,
    body: &mut Incoming,
) -> Result<Answer, Failure> {
    let request = context.request;
    context.catalog.bucket(bucket)?;
    if request.header("content-md5").is_none() {
        let failure = Failure::new(Code::MissingArgument, "Content-MD5 is required.");
        return Err(failure.with("ArgumentName", "Content-MD5"));
    }
    let document = body.document_with_long_md5(request).await?;
    let list = parse_delete(&document).map_err(|why| Failure::new(Code::MalformedXML, why))?;
    if list.objects.is_empty() || list.objects.len() > KEYS_MAX {
        let message = format!("One request names 1 to {KEYS_MAX} keys.");
        return Err(Failure::new(Code::MalformedXML, message).ec("0016-00000609"));
    }
    let named = list.objects.iter().filter_map(|object| object.version.as_deref());
    if named.into_iter().any(|id| !["", "null"].contains(&id)) {
        return Err(Failure::not_implemented("versions: the only one is null"));
    }
    let at = |object: &DeleteObject| Address { bucket: bucket.clone(), key: object.key.clone() };
    let all: Vec<Address> = list.objects.iter().map(at).collect();
    call(context.catalog, move |catalog| all.iter().try_for_each(|at| catalog.delete_object(at))).await?;
    if list.quiet {
        return Ok(Answer::new(StatusCode::OK));
    }
    let mut xml = Document::listing("DeleteResult", request.encodes_keys()?);
    for object in &list.objects {
        xml.open("Deleted");
        xml.key("Key", &object.key);
        object.version.iter().for_each(|id| xml.text("VersionId", id));
        xml.close("Deleted");
    }
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}
