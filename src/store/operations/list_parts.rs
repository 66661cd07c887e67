//! One page of the parts that an upload has (specification, section 4.12).

use bytes::Bytes;
use http::{Method, Response};
use serde::Deserialize;

use super::lacks;
use crate::model::object::{Bucket, ETag, Key, UploadId};
use crate::model::part::PartNumber;
use crate::model::retry::Fault;
use crate::store::{Call, Dialect, Operation, xml};

pub struct ListParts<'a> {
    pub bucket: &'a Bucket,
    pub key: &'a Key,
    pub upload_id: &'a UploadId,
    /// Parts with greater numbers are listed.
    pub after: Option<PartNumber>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartsPage {
    /// In ascending order.
    pub parts: Vec<ListedPart>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<PartNumber>,
}

/// A part, as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPart {
    pub number: PartNumber,
    pub bytes: u64,
    pub etag: ETag,
    /// Absent for copied parts.
    pub crc64: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    next_part_number_marker: Option<String>,
    is_truncated: Option<bool>,
    #[serde(default, rename = "Part")]
    parts: Vec<DocumentPart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DocumentPart {
    part_number: u32,
    #[serde(rename = "ETag")]
    etag: String,
    size: u64,
    hash_crc64ecma: Option<String>,
}

impl Operation for ListParts<'_> {
    const NAME: &'static str = "ListParts";
    type Reply = PartsPage;

    fn call<'a>(&'a self, _: &dyn Dialect) -> Call<'a> {
        let call = Call::new(Method::GET, self.bucket, Some(self.key))
            .query("uploadId", self.upload_id.0.as_str())
            .query("encoding-type", "url");
        match self.after {
            Some(number) => call.query("part-number-marker", number.to_string()),
            None => call,
        }
    }

    fn read(&self, _: &dyn Dialect, response: &Response<Bytes>) -> Result<PartsPage, Fault> {
        let document: Document = xml::read(response.body())?;
        let marker = document.next_part_number_marker.and_then(|text| text.parse().ok()).and_then(PartNumber::new);
        let next = if document.is_truncated == Some(true) {
            Some(marker.ok_or_else(|| lacks("the marker of the next page"))?)
        } else {
            None
        };
        let part = |part: DocumentPart| {
            Some(ListedPart {
                number: PartNumber::new(part.part_number)?,
                bytes: part.size,
                etag: ETag::new(&part.etag),
                crc64: part.hash_crc64ecma.and_then(|text| text.parse().ok()),
            })
        };
        Ok(PartsPage { parts: document.parts.into_iter().filter_map(part).collect(), next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::settings::ClientSettings;
    use crate::store::Store;

    fn read(xml: &str) -> Result<PartsPage, Fault> {
        let store = Store::new(&ClientSettings::new("oss-cn-hangzhou.aliyuncs.com")).unwrap();
        let (bucket, key, id) = (Bucket::new("demo").unwrap(), Key::new("k").unwrap(), UploadId("u".into()));
        let operation = ListParts { bucket: &bucket, key: &key, upload_id: &id, after: None };
        store.reply(&operation, &Response::new(Bytes::copy_from_slice(xml.as_bytes())))
    }

    #[test]
    fn the_samples_of_xml_samples_json_are_read() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/xml_samples.json")).unwrap();
        let mut seen = 0;
        for vector in file["vectors"].as_array().unwrap() {
            if !vector["id"].as_str().unwrap().starts_with("list-parts") {
                continue;
            }
            seen += 1;
            let page = read(vector["xml"].as_str().unwrap()).unwrap();
            let parts = vector["parsed"]["parts"].as_array().unwrap();
            assert_eq!(page.parts.len(), parts.len());
            assert_eq!(page.next, None);
        }
        assert_eq!(seen, 2);
    }

    #[test]
    fn a_gap_a_missing_checksum_and_escaped_quotes_are_read() {
        let page = read(
            "<R><IsTruncated>true</IsTruncated><NextPartNumberMarker>5</NextPartNumberMarker><Part><PartNumber>1\
             </PartNumber><ETag>&quot;A&quot;</ETag><Size>6</Size><HashCrc64ecma>18446744073709551615</HashCrc64ecma></Part>\
             <Part><PartNumber>5</PartNumber><ETag>\"B\"</ETag><Size>7</Size><New/></Part></R>",
        )
        .unwrap();
        assert_eq!(page.next, PartNumber::new(5));
        assert_eq!(page.parts[0].crc64, Some(u64::MAX));
        assert_eq!((page.parts[1].number.get(), page.parts[1].crc64), (5, None));
        assert_eq!(page.parts[1].etag, ETag::new("b"));
    }

    #[test]
    fn a_truncated_page_that_does_not_say_where_to_go_on_is_a_fault() {
        assert!(read("<R><IsTruncated>true</IsTruncated></R>").is_err());
    }
}
