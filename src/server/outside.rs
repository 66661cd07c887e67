//! What the server makes of requests and documents from outside, without a connection: for whoever tests that.

use std::time::SystemTime;

use http::request::Parts;

use super::AccessKey;
use super::auth::{Caller, Verifier};
use super::operations::Operation;
use super::request::Request;
use super::xml::{self, Document};
use crate::model::object::Bucket;

/// A request whose address was understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Understood {
    pub bucket: Option<Bucket>,
    pub key: Option<String>,
    /// Decoded, in the order sent.
    pub query: Vec<(String, String)>,
    /// Name of the operation, or the code of the refusal.
    pub operation: Result<&'static str, &'static str>,
    pub sender: Sender,
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// It carries a right signature.
    Owner,
    /// It carries none.
    Anonymous,
    /// It carries one that is not believed, for the reason of this code.
    Refused(&'static str),
}

/// Understands the head of a request as a server of the keys `keys` in `region` does.
///
/// # Errors
/// The code of the refusal, if the address cannot be understood.
pub fn request(
    head: &Parts,
    base_domain: &str,
    keys: Vec<AccessKey>,
    region: &str,
    now: SystemTime,
) -> Result<Understood, &'static str> {
    let request = Request::parse(head, base_domain).map_err(|failure| failure.code.name())?;
    let sender = match Verifier::new(keys, region.to_owned()).verify(&request, now) {
        Ok(Caller::Owner) => Sender::Owner,
        Ok(Caller::Anonymous) => Sender::Anonymous,
        Err(failure) => Sender::Refused(failure.code.name()),
    };
    let operation = Operation::of(&request).map(Operation::name).map_err(|failure| failure.code.name());
    let Request { bucket, key, query, .. } = request;
    Ok(Understood { bucket, key, query, operation, sender })
}

/// The document of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// Numbers and ETags.
    Complete(Vec<(u32, String)>),
    Delete {
        quiet: bool,
        keys: Vec<String>,
    },
    /// Names and values.
    Tagging(Vec<(String, String)>),
    /// Storage class and redundancy.
    CreateBucket(Option<String>, Option<String>),
}

/// Reads a document, whichever it is.
pub fn body(bytes: &[u8]) -> Option<Body> {
    let complete = || {
        let pair = |part: xml::ListedPart| (part.number, part.etag.as_str().to_owned());
        Some(Body::Complete(xml::parse_complete(bytes).ok()?.into_iter().map(pair).collect()))
    };
    let delete = || {
        let list = xml::parse_delete(bytes).ok()?;
        Some(Body::Delete { quiet: list.quiet, keys: list.objects.into_iter().map(|object| object.key).collect() })
    };
    let tagging = || xml::parse_tagging(bytes).ok().map(Body::Tagging);
    let bucket = || xml::parse_create_bucket(bytes).ok().map(|b| Body::CreateBucket(b.storage_class, b.redundancy));
    complete().or_else(delete).or_else(tagging).or_else(bucket)
}

impl Body {
    /// The document as this server would write it.
    pub fn write(&self) -> String {
        match self {
            Self::Complete(parts) => written("CompleteMultipartUpload", |document| {
                for (number, etag) in parts {
                    document.open("Part");
                    document.number("PartNumber", number);
                    document.etag(etag);
                    document.close("Part");
                }
            }),
            Self::Delete { quiet, keys } => written("Delete", |document| {
                document.text("Quiet", &quiet.to_string());
                for key in keys {
                    document.open("Object");
                    document.text("Key", key);
                    document.close("Object");
                }
            }),
            Self::Tagging(tags) => written("Tagging", |document| {
                document.open("TagSet");
                for (name, value) in tags {
                    document.open("Tag");
                    document.text("Key", name);
                    document.text("Value", value);
                    document.close("Tag");
                }
                document.close("TagSet");
            }),
            Self::CreateBucket(class, redundancy) => written("CreateBucketConfiguration", |document| {
                class.iter().for_each(|class| document.text("StorageClass", class));
                redundancy.iter().for_each(|kind| document.text("DataRedundancyType", kind));
            }),
        }
    }
}

fn written(root: &'static str, content: impl FnOnce(&mut Document)) -> String {
    let mut document = Document::new(root);
    content(&mut document);
    document.finish()
}
