//! One page of the unfinished uploads of a bucket (specification, section 4.13).

use bytes::Bytes;
use http::{Method, Response};
use serde::Deserialize;

use super::{KEY_BYTES_MAX, lacks, upload_id, wrong};
use crate::model::object::{Bucket, GIVEN_BYTES_MAX, Key, UploadId};
use crate::model::retry::Fault;
use crate::store::shown::shown;
use crate::store::{Call, Dialect, Operation, xml};

/// Uploads on a page, at most (specification, section 4.13).
const PAGE_UPLOADS_MAX: usize = 1000;

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
            .query("max-uploads", PAGE_UPLOADS_MAX.to_string());
        // No key is longer; the answer is sifted by the whole prefix.
        let ends = self.prefix.char_indices().map(|(start, c)| start + c.len_utf8());
        let prefix = &self.prefix[..ends.take_while(|end| *end <= KEY_BYTES_MAX).last().unwrap_or_default()];
        if !prefix.is_empty() {
            call = call.query("prefix", prefix);
        }
        match &self.after {
            Some((key, id)) => call.query("key-marker", key.as_str()).query("upload-id-marker", id.as_str()),
            None => call,
        }
    }

    fn read(&self, _: &dyn Dialect, response: &Response<Bytes>) -> Result<UploadsPage, Fault> {
        let document: Document = xml::read(response.body())?;
        if document.uploads.len() > PAGE_UPLOADS_MAX {
            return Err(wrong(format!(
                "a page of {} uploads, where {PAGE_UPLOADS_MAX} are asked for",
                document.uploads.len()
            )));
        }
        let next = if document.is_truncated == Some(true) { Some(document.next()?) } else { None };
        // Uploads of one key are listed in an order that the documentation does not tell.
        let stays = |next: &(String, String), after: &(String, String)| next == after || next.0 < after.0;
        if next.as_ref().zip(self.after.as_ref()).is_some_and(|(next, after)| stays(next, after)) {
            return Err(wrong("the next page of uploads does not lie behind this one"));
        }
        let encoding = document.encoding_type.as_deref();
        let uploads =
            document.uploads.into_iter().map(|upload| upload.info(encoding)).collect::<Result<Vec<_>, _>>()?;
        let uploads = uploads.into_iter().filter(|upload| upload.key.as_str().starts_with(self.prefix)).collect();
        Ok(UploadsPage { uploads, next })
    }
}

impl Document {
    /// Where the next page begins.
    fn next(&self) -> Result<(String, String), Fault> {
        let key = self.next_key_marker.as_deref().ok_or_else(|| lacks("the marker of the next page"))?;
        let key = xml::decoded(key, self.encoding_type.as_deref())?;
        let id = self.next_upload_id_marker.clone().unwrap_or_default();
        if key.len() > KEY_BYTES_MAX || id.len() > GIVEN_BYTES_MAX {
            return Err(wrong("the marker of the next page is too long"));
        }
        Ok((key, id))
    }
}

impl DocumentUpload {
    fn info(self, encoding: Option<&str>) -> Result<UploadInfo, Fault> {
        let key = Key::new(xml::decoded(&self.key, encoding)?);
        Ok(UploadInfo {
            key: key.map_err(|e| wrong(shown(&e.to_string())))?,
            upload_id: upload_id(self.upload_id)?,
            initiated: shown(&self.initiated.unwrap_or_default()),
        })
    }
}
