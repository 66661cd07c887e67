//! Buckets: making, deleting and describing them.

use http::StatusCode;

use super::body::Incoming;
use super::{Answer, Context, call, headers};
use crate::model::object::Bucket;
use crate::server::errors::{Code, Failure};
use crate::server::store::BucketRecord;
use crate::server::xml::{Document, parse_create_bucket};

/// Longest name of a bucket.
const NAME_MAX: usize = 63;

pub(super) async fn put_bucket(context: Context<'_>, bucket: &Bucket, body: &mut Incoming) -> Result<Answer, Failure> {
    let acl = headers::bucket_acl(context.request)?;
    let document = body.document(context.request).await?;
    let wanted = match document.is_empty() {
        true => Default::default(),
        false => parse_create_bucket(&document).map_err(|why| Failure::new(Code::MalformedXML, why))?,
    };
    let record = BucketRecord {
        acl: acl.unwrap_or_default(),
        storage_class: element("StorageClass", wanted.storage_class)?,
        redundancy: element("DataRedundancyType", wanted.redundancy)?,
        ..BucketRecord::new()
    };
    let name = bucket.clone();
    call(context.catalog, move |catalog| {
        catalog.make_bucket(&name, record)?;
        // Of a bucket that was there already, only the access may be changed.
        match acl {
            Some(acl) => catalog.amend_bucket(&name, |record| record.acl = acl),
            None => Ok(()),
        }
    })
    .await?;
    let mut answer = Answer::new(StatusCode::OK);
    answer.set("location", &format!("/{bucket}"));
    Ok(answer)
}

/// One of the few values of an element; `None` if it is missing or empty.
fn element(name: &str, value: Option<String>) -> Result<Option<String>, Failure> {
    let value = value.filter(|value| !value.is_empty());
    value.map(|value| headers::chosen(name, &value).map(str::to_owned)).transpose()
}

pub(super) async fn head_bucket(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    let record = context.catalog.bucket(bucket)?;
    let mut answer = Answer::new(StatusCode::OK);
    answer.set("x-oss-bucket-region", &format!("oss-{}", context.region));
    answer.set("x-oss-storage-class", record.storage_class());
    Ok(answer)
}

/// Of a bucket that never kept versions: nothing to say.
pub(super) async fn versioning(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    context.catalog.bucket(bucket)?;
    Ok(Answer::new(StatusCode::OK).xml(Document::new("VersioningConfiguration").finish()))
}

pub(super) async fn delete_bucket(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    let name = bucket.clone();
    call(context.catalog, move |catalog| catalog.delete_bucket(&name)).await?;
    Ok(Answer::new(StatusCode::NO_CONTENT))
}

pub(super) async fn bucket_info(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    let record = context.catalog.bucket(bucket)?;
    let mut xml = Document::new("BucketInfo");
    xml.open("Bucket");
    describe(&mut xml, context, bucket, &record);
    xml.text("DataRedundancyType", record.redundancy());
    for name in ["AccessMonitor", "TransferAcceleration", "CrossRegionReplication"] {
        xml.text(name, "Disabled");
    }
    xml.open("ServerSideEncryptionRule");
    xml.text("SSEAlgorithm", "None");
    xml.close("ServerSideEncryptionRule");
    xml.open("AccessControlList");
    xml.text("Grant", record.acl.name());
    xml.close("AccessControlList");
    xml.owner();
    xml.close("Bucket");
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}

fn describe(xml: &mut Document, context: Context<'_>, bucket: &Bucket, record: &BucketRecord) {
    xml.text("Name", bucket.as_str());
    xml.text("Location", &format!("oss-{}", context.region));
    xml.time("CreationDate", record.created);
    xml.text("ExtranetEndpoint", &context.request.host);
    xml.text("IntranetEndpoint", &context.request.host);
    xml.text("StorageClass", record.storage_class());
}

pub(super) async fn location(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    context.catalog.bucket(bucket)?;
    let mut xml = Document::new("LocationConstraint");
    xml.content(&format!("oss-{}", context.region));
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}

pub(super) async fn stat(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    let totals = context.catalog.totals(bucket)?;
    let mut xml = Document::new("BucketStat");
    xml.number("Storage", totals.bytes);
    xml.number("ObjectCount", totals.objects);
    xml.number("MultipartUploadCount", totals.uploads);
    xml.number("LiveChannelCount", 0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    xml.number("LastModifiedTime", now.as_secs());
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}

pub(super) async fn list_buckets(context: Context<'_>) -> Result<Answer, Failure> {
    let request = context.request;
    let (prefix, marker) = (request.query("prefix").unwrap_or(""), request.query("marker").unwrap_or(""));
    let max = request.number("max-keys", 1..=1000)?.unwrap_or(100);
    let is_of_names = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if prefix.len() > NAME_MAX || prefix.starts_with('-') || !prefix.bytes().all(is_of_names) {
        return Err(Failure::argument("prefix", prefix, "No bucket has such a name.").ec("0017-00000290"));
    }
    let mut all = context.catalog.list_buckets();
    all.retain(|(name, _)| name.as_str().starts_with(prefix) && name.as_str() > marker);
    let more = all.len() > max as usize;
    all.truncate(max as usize);
    let mut xml = Document::new("ListAllMyBucketsResult");
    xml.text("Prefix", prefix);
    xml.text("Marker", marker);
    xml.number("MaxKeys", max);
    xml.number("IsTruncated", more);
    xml.text("NextMarker", all.last().filter(|_| more).map_or("", |(name, _)| name.as_str()));
    xml.owner();
    xml.open("Buckets");
    for (name, record) in &all {
        xml.open("Bucket");
        describe(&mut xml, context, name, record);
        xml.text("Region", context.region);
        xml.close("Bucket");
    }
    xml.close("Buckets");
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}
