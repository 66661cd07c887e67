//! One page of the unfinished uploads of a bucket (specification, section 4.13).

use bytes::Bytes;
use http::{Method, Response};
use serde::Deserialize;

use super::lacks;
use crate::model::object::{Bucket, Key, UploadId};
use crate::model::retry::{Fault, FaultKind};
use crate::store::{Call, Dialect, Operation, xml};

pub struct ListUploads<'a> {
    pub bucket: &'a Bucket,
    /// Only keys that start with this.
    pub prefix: &'a str,
    /// Key and upload id that end the page before.
    pub after: Option<(String, String)>,
}

#[derive(Debug, Clone)]
pub struct UploadsPage {
    pub uploads: Vec<UploadInfo>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<(String, String)>,
}

/// An unfinished multipart upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadInfo {
    pub key: Key,
    pub upload_id: UploadId,
    /// As the store wrote it, `2025-01-01T00:00:00.000Z`.
    pub initiated: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    encoding_type: Option<String>,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    is_truncated: Option<bool>,
    #[serde(default, rename = "Upload")]
    uploads: Vec<DocumentUpload>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DocumentUpload {
    key: String,
    upload_id: String,
    initiated: Option<String>,
}

impl Operation for ListUploads<'_> {
    const NAME: &'static str = "ListMultipartUploads";
    type Reply = UploadsPage;

    fn call<'a>(&'a self, _: &dyn Dialect) -> Call<'a> {
        let mut call = Call::new(Method::GET, self.bucket, None)
            .query("uploads", "")
            .query("encoding-type", "url")
            .query("max-uploads", "1000");
        if !self.prefix.is_empty() {
            call = call.query("prefix", self.prefix);
        }
        match &self.after {
            Some((key, id)) => call.query("key-marker", key.as_str()).query("upload-id-marker", id.as_str()),
            None => call,
        }
    }

    fn read(&self, _: &dyn Dialect, response: &Response<Bytes>) -> Result<UploadsPage, Fault> {
        let document: Document = xml::read(response.body())?;
        let encoding = document.encoding_type.as_deref();
        let upload = |upload: DocumentUpload| {
            let key = Key::new(xml::decoded(&upload.key, encoding)?);
            Ok(UploadInfo {
                key: key.map_err(|e| Fault::new(FaultKind::Protocol, e.to_string()))?,
                upload_id: UploadId(upload.upload_id),
                initiated: upload.initiated.unwrap_or_default(),
            })
        };
        let next = match (document.is_truncated, &document.next_key_marker) {
            (Some(true), Some(key)) => {
                Some((xml::decoded(key, encoding)?, document.next_upload_id_marker.clone().unwrap_or_default()))
            }
            (Some(true), None) => return Err(lacks("the marker of the next page")),
            _ => None,
        };
        Ok(UploadsPage { uploads: document.uploads.into_iter().map(upload).collect::<Result<_, Fault>>()?, next })
    }
}
