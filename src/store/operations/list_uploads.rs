//! One page of the unfinished uploads of a bucket (specification, section 4.13).

use std::borrow::Cow;

use bytes::Bytes;
use http::{Method, Response};
use serde::Deserialize;

use super::{KEY_BYTES_MAX, lacks, wrong};
use crate::model::object::{Bucket, GIVEN_BYTES_MAX, Key, UploadId};
use crate::model::retry::Fault;
use crate::store::shown::shown;
use crate::store::{Call, Dialect, Operation, xml};

/// Uploads on a page, at most (specification, section 4.13).
const PAGE_UPLOADS_MAX: usize = 1000;
/// Longest key that is sent back to get the next page, in bytes: an address has room for some 64 KiB.
const MARKER_BYTES_MAX: usize = 8 << 10;

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
    pub key: ListedKey,
    /// As the store wrote it: not one to send anywhere unless [`UploadInfo::named`] gives it.
    pub upload_id: UploadId,
    /// As the store wrote it, `2025-01-01T00:00:00.000Z`.
    pub initiated: String,
}

/// The name that is listed for an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedKey {
    Key(Key),
    /// Another client's that cannot be asked for by haul, such as one that begins with `/`; as the store wrote it, and still
    /// encoded if it is no text.
    Odd(String),
}

impl ListedKey {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Key(key) => key.as_str(),
            Self::Odd(text) => text,
        }
    }
}

impl UploadInfo {
    /// Key and id to ask for; `None` if either is none that haul would take from a store or a user.
    pub fn named(&self) -> Option<(&Key, &UploadId)> {
        match &self.key {
            ListedKey::Key(key) if self.upload_id.is_credible() => Some((key, &self.upload_id)),
            _ => None,
        }
    }
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
    #[serde(default)]
    key: String,
    #[serde(default)]
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

    /// One entry that makes no sense does not hide the others.
    fn read(&self, _: &dyn Dialect, response: &Response<Bytes>) -> Result<UploadsPage, Fault> {
        let text = String::from_utf8_lossy(response.body());
        let document: Document = xml::read(text.as_bytes())?;
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
        let (encoding, is_whole) = (document.encoding_type.as_deref(), matches!(text, Cow::Borrowed(_)));
        let uploads = document.uploads.into_iter().filter_map(|upload| upload.info(encoding, self.prefix, is_whole));
        Ok(UploadsPage { uploads: uploads.collect(), next })
    }
}

impl Document {
    /// Where the next page begins.
    fn next(&self) -> Result<(String, String), Fault> {
        let key = self.next_key_marker.as_deref().ok_or_else(|| lacks("the marker of the next page"))?;
        let key = String::from_utf8(xml::decoded(key, self.encoding_type.as_deref()));
        let key = key.map_err(|_| wrong("the marker of the next page is not UTF-8"))?;
        let id = self.next_upload_id_marker.clone().unwrap_or_default();
        if key.len() > MARKER_BYTES_MAX || id.len() > GIVEN_BYTES_MAX {
            return Err(wrong("the marker of the next page is too long"));
        }
        Ok((key, id))
    }
}

impl DocumentUpload {
    /// `None` if its key does not start with `prefix`.
    ///
    /// - `is_whole`: the document had no bytes that are no text, for which something else stands now.
    fn info(self, encoding: Option<&str>, prefix: &str, is_whole: bool) -> Option<UploadInfo> {
        let bytes = xml::decoded(&self.key, encoding);
        if !bytes.starts_with(prefix.as_bytes()) {
            return None;
        }
        let key = match String::from_utf8(bytes) {
            Ok(text) if is_whole || !text.contains(char::REPLACEMENT_CHARACTER) => {
                Key::new(text.clone()).map_or(ListedKey::Odd(text), ListedKey::Key)
            }
            Ok(text) => ListedKey::Odd(text),
            Err(_) => ListedKey::Odd(self.key),
        };
        let initiated = shown(&self.initiated.unwrap_or_default());
        Some(UploadInfo { key, upload_id: UploadId(self.upload_id), initiated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::settings::ClientSettings;
    use crate::store::Store;

    fn read(prefix: &str, xml: &[u8]) -> Result<UploadsPage, Fault> {
        let store = Store::new(&ClientSettings::new("oss-cn-hangzhou.aliyuncs.com")).unwrap();
        let operation = ListUploads { bucket: &Bucket::new("demo").unwrap(), prefix, after: None };
        store.reply(&operation, &Response::new(Bytes::copy_from_slice(xml)))
    }

    fn page(entries: &[(&[u8], &str)], encoding: &str) -> Vec<u8> {
        let entry = |(key, id): &(&[u8], &str)| {
            [b"<Upload><Key>", *key, b"</Key><UploadId>", id.as_bytes(), b"</UploadId></Upload>"].concat()
        };
        let entries: Vec<u8> = entries.iter().flat_map(entry).collect();
        [format!("<R><EncodingType>{encoding}</EncodingType>").as_bytes(), &entries, b"</R>"].concat()
    }

    #[test]
    fn one_odd_entry_hides_no_other_and_cannot_be_asked_for() {
        let (long, long_id) = ("k".repeat(1024), "U".repeat(1025));
        for (encoding, key, id, shown) in [
            ("url", &b"%2Fodd"[..], "U1", "/odd"),
            ("url", b"%5Codd", "U1", "\\odd"),
            ("url", b"a%FFb", "U1", "a%FFb"),
            ("url", b"", "U1", ""),
            ("url", long.as_bytes(), "U1", &long),
            ("", b"a\xffb", "U1", "a\u{fffd}b"),
            ("url", b"fine", "", "fine"),
            ("url", b"fine", "U&#27;[2J", "fine"),
            ("url", b"fine", &long_id, "fine"),
        ] {
            let page = read("", &page(&[(key, id), (b"good", "U2")], encoding)).unwrap();
            assert_eq!((page.uploads[0].key.as_str(), page.uploads[0].named()), (shown, None));
            let good = (&Key::new("good").unwrap(), &UploadId("U2".into()));
            assert_eq!(page.uploads[1].named(), Some(good), "behind {shown:?}");
        }
    }

    #[test]
    fn an_entry_without_key_or_id_hides_no_other() {
        let page = read(
            "",
            b"<R><Upload/><Upload><Key>a</Key></Upload><Upload><Key>b</Key><UploadId>U</UploadId></Upload></R>",
        );
        let named: Vec<_> = page.unwrap().uploads.iter().map(|upload| upload.named().is_some()).collect();
        assert_eq!(named, [false, false, true]);
    }

    #[test]
    fn an_odd_key_that_begins_otherwise_is_not_listed() {
        let page =
            read("dir/", &page(&[(b"%2Fodd", "U1"), (b"dir%2F%FF", "U2"), (b"dir%2Fgood", "U3")], "url")).unwrap();
        assert_eq!(page.uploads.iter().map(|upload| upload.upload_id.0.as_str()).collect::<Vec<_>>(), ["U2", "U3"]);
    }

    #[test]
    fn a_control_character_in_a_key_is_a_name_like_any_other() {
        let page = read("", &page(&[(b"a%0A%1Bb", "U1")], "url")).unwrap();
        assert_eq!(page.uploads[0].named().map(|(key, _)| key.as_str()), Some("a\n\u{1b}b"));
    }
}
