//! One page of the parts that an upload has (specification, section 4.12).

use bytes::Bytes;
use http::{Method, Response};
use serde::Deserialize;

use super::{etag, lacks, wrong};
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

    /// The numbers ascend from behind [`ListParts::after`], and so does the next page: a list ends.
    fn read(&self, dialect: &dyn Dialect, response: &Response<Bytes>) -> Result<PartsPage, Fault> {
        let document: Document = xml::read(response.body())?;
        let number = |n: u32| PartNumber::new(n).filter(|_| n <= dialect.limits().parts_max);
        let listed = |part: DocumentPart| {
            let number = number(part.part_number);
            let number = number.ok_or_else(|| wrong(format_args!("there is no part number {}", part.part_number)))?;
            let crc64 = part.hash_crc64ecma.and_then(|text| text.parse().ok());
            Ok(ListedPart { number, bytes: part.size, etag: etag(&part.etag)?, crc64 })
        };
        let parts = document.parts.into_iter().map(listed).collect::<Result<Vec<_>, _>>()?;
        let numbers = || self.after.into_iter().chain(parts.iter().map(|part| part.number));
        if !numbers().is_sorted_by(|a, b| a < b) {
            return Err(wrong("the listed parts are not in order"));
        }
        if document.is_truncated != Some(true) {
            return Ok(PartsPage { parts, next: None });
        }
        let marker = document.next_part_number_marker.and_then(|text| text.parse().ok()).and_then(number);
        let next = marker.ok_or_else(|| lacks("the marker of the next page"))?;
        if Some(next) <= self.after || numbers().last() > Some(next) {
            return Err(wrong("the next page of parts does not lie behind this one"));
        }
        Ok(PartsPage { parts, next: Some(next) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::retry::FaultKind;
    use crate::model::settings::ClientSettings;
    use crate::store::Store;

    fn read(xml: &str) -> Result<PartsPage, Fault> {
        read_after(0, xml)
    }

    /// - `after`: 0 for the first page.
    fn read_after(after: u32, xml: &str) -> Result<PartsPage, Fault> {
        let store = Store::new(&ClientSettings::new("oss-cn-hangzhou.aliyuncs.com")).unwrap();
        let (bucket, key, id) = (Bucket::new("demo").unwrap(), Key::new("k").unwrap(), UploadId("u".into()));
        let operation = ListParts { bucket: &bucket, key: &key, upload_id: &id, after: PartNumber::new(after) };
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

    fn page(after: u32, parts: &[(&str, &str)], next: Option<&str>) -> Result<PartsPage, Fault> {
        let part = |(number, etag): &(&str, &str)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><Size>1</Size></Part>")
        };
        let next =
            next.map(|n| format!("<IsTruncated>true</IsTruncated><NextPartNumberMarker>{n}</NextPartNumberMarker>"));
        read_after(after, &format!("<R>{}{}</R>", next.unwrap_or_default(), parts.iter().map(part).collect::<String>()))
    }

    #[test]
    fn parts_that_cannot_be_and_lists_that_need_not_end_are_faults() {
        assert_eq!(page(1, &[("2", "A"), ("10000", "B")], Some("10000")).unwrap().parts.len(), 2);
        assert_eq!(page(2, &[], Some("3")).unwrap().next, PartNumber::new(3));
        for (after, parts, next) in [
            (1, &[("0", "A")][..], None),
            (1, &[("10001", "A")], None),
            (1, &[("4294967296", "A")], None),
            (1, &[("3", "A"), ("2", "A")], None),
            (1, &[("2", "A"), ("2", "A")], None),
            (2, &[("2", "A")], None),
            (1, &[("2", "")], None),
            (1, &[("2", "&#27;[2J")], None),
            (2, &[], Some("2")),
            (1, &[("2", "A"), ("5", "B")], Some("4")),
            (1, &[("2", "A")], Some("10001")),
        ] {
            assert_eq!(page(after, parts, next).unwrap_err().kind, FaultKind::Protocol, "{parts:?} {next:?}");
        }
        assert!(page(1, &[("2", &"A".repeat(2000))], None).is_err());
    }
}
