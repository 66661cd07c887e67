//! PutObject and AppendObject.

use http::StatusCode;

use super::body::Incoming;
use super::callback::Callback;
use super::headers::{echo_encryption, forbids_overwrite, kept_headers};
use super::{Answer, Context, call};
use crate::server::errors::Failure;
use crate::server::store::{Address, Kind, NewObject, Sums};

pub(super) async fn put_object(context: Context<'_>, at: Address, body: &mut Incoming) -> Result<Answer, Failure> {
    let request = context.request;
    let callback = Callback::of(request)?;
    let headers = kept_headers(context, &at.bucket)?;
    let keep = forbids_overwrite(request)?;
    let received = body.receive(context.catalog, request).await?;
    let mut answer = stored(&received.sums);
    echo_encryption(&mut answer, &headers);
    let new = NewObject { sums: received.sums, headers, kind: Kind::Normal };
    let to = at.clone();
    let object = call(context.catalog, move |catalog| catalog.put_object(&to, received.blob, new, keep)).await?;
    match callback {
        Some(callback) => callback.make(&at, &object, answer).await,
        None => Ok(answer),
    }
}

pub(super) async fn append_object(context: Context<'_>, at: Address, body: &mut Incoming) -> Result<Answer, Failure> {
    let request = context.request;
    let headers = kept_headers(context, &at.bucket)?;
    let text = request.query("position").unwrap_or("");
    let refused = || Failure::argument("position", text, "position is a number of bytes.");
    let position: u64 = text.parse().map_err(|_| refused())?;
    context.catalog.appendable(&at, position)?;
    let received = body.receive(context.catalog, request).await?;
    let mut answer = Answer::new(StatusCode::OK);
    echo_encryption(&mut answer, &headers);
    let new = NewObject { sums: received.sums, headers, kind: Kind::Appendable };
    let object = call(context.catalog, move |catalog| catalog.append(&at, position, received.blob, new)).await?;
    answer.set("etag", &format!("\"{}\"", object.etag));
    answer.set("x-oss-hash-crc64ecma", &object.crc64.to_string());
    answer.set("x-oss-next-append-position", &object.bytes.to_string());
    Ok(answer)
}

/// The answer to bytes that were stored as they came.
pub(super) fn stored(sums: &Sums) -> Answer {
    let mut answer = Answer::new(StatusCode::OK);
    answer.set("etag", &format!("\"{}\"", sums.etag()));
    answer.set("x-oss-hash-crc64ecma", &sums.crc64.to_string());
    if let Some(md5) = sums.content_md5() {
        answer.set("content-md5", &md5);
    }
    answer
}
