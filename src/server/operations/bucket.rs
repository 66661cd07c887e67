//! PutBucket and GetBucketInfo.

use http::StatusCode;

use super::{Answer, Context, call};
use crate::model::object::Bucket;
use crate::server::errors::Failure;
use crate::server::xml::Document;

pub(super) async fn put_bucket(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    let acl = context.request.header("x-oss-acl").unwrap_or("private");
    if acl != "private" {
        return Err(Failure::not_implemented("buckets that are not private"));
    }
    let name = bucket.clone();
    call(context.catalog, move |catalog| catalog.make_bucket(&name)).await?;
    let mut answer = Answer::new(StatusCode::OK);
    answer.set("location", &format!("/{bucket}"));
    Ok(answer)
}

pub(super) async fn bucket_info(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    let created = context.catalog.bucket(bucket)?;
    let mut xml = Document::new("BucketInfo");
    xml.open("Bucket");
    xml.text("Name", bucket.as_str());
    xml.text("Location", &format!("oss-{}", context.region));
    xml.time("CreationDate", created);
    xml.text("ExtranetEndpoint", &context.request.host);
    xml.text("IntranetEndpoint", &context.request.host);
    xml.text("StorageClass", "Standard");
    xml.text("DataRedundancyType", "LRS");
    xml.open("AccessControlList");
    xml.text("Grant", "private");
    xml.close("AccessControlList");
    xml.open("Owner");
    xml.text("ID", "haul");
    xml.text("DisplayName", "haul");
    xml.close("Owner");
    xml.close("Bucket");
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}
