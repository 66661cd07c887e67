//! The documents of the protocol: written by hand-sized helpers, read with quick-xml.
//!
//! # Source
//! XML rules and `encoding-type=url`: specification, section 4.0.

use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_xml::escape::escape;
use serde::Deserialize;

use crate::model::object::ETag;

/// Everything but `A-Z a-z 0-9 - . _ ~`.
pub(crate) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// As [`ENCODED`], but `/` stays.
pub(crate) const ENCODED_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// A document being written.
pub(crate) struct Document {
    root: &'static str,
    text: String,
    encode_keys: bool,
}

impl Document {
    pub fn new(root: &'static str) -> Self {
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}>");
        Self { root, text, encode_keys: false }
    }

    /// A listing whose key-like fields are percent-encoded if the client asked for `encoding-type=url`.
    pub fn listing(root: &'static str, encode_keys: bool) -> Self {
        let mut document = Self::new(root);
        document.encode_keys = encode_keys;
        if encode_keys {
            document.text("EncodingType", "url");
        }
        document
    }

    pub fn text(&mut self, name: &str, value: &str) {
        self.open(name);
        self.content(value);
        self.close(name);
    }

    /// Text within the element that is open.
    pub fn content(&mut self, value: &str) {
        self.text.push_str(&escape(value));
    }

    /// The one owner of everything here.
    pub fn owner(&mut self) {
        self.open("Owner");
        self.text("ID", "haul");
        self.text("DisplayName", "haul");
        self.close("Owner");
    }

    pub fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        self.text(name, &value.to_string());
    }

    /// A key, prefix, delimiter or marker.
    pub fn key(&mut self, name: &str, value: &str) {
        if self.encode_keys {
            self.text(name, &utf8_percent_encode(value, ENCODED).to_string());
        } else {
            self.text(name, value);
        }
    }

    pub fn etag(&mut self, value: &str) {
        self.text("ETag", &format!("\"{value}\""));
    }

    pub fn time(&mut self, name: &str, at: SystemTime) {
        self.text(name, &iso(at));
    }

    pub fn open(&mut self, name: &str) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push('>');
    }

    pub fn close(&mut self, name: &str) {
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
    }

    pub fn finish(mut self) -> String {
        self.close(self.root);
        self.text
    }
}

/// `YYYY-MM-DDThh:mm:ss.000Z`; the epoch for times out of the calendar.
pub(crate) fn iso(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

/// One line of a Complete request: number as written (not yet checked) and ETag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedPart {
    pub number: u32,
    pub etag: ETag,
}

#[derive(Deserialize)]
#[serde(rename = "CompleteMultipartUpload")]
struct CompleteBody {
    #[serde(rename = "Part", default)]
    parts: Vec<CompletePart>,
}

#[derive(Deserialize)]
struct CompletePart {
    #[serde(rename = "PartNumber")]
    number: u32,
    #[serde(rename = "ETag")]
    etag: String,
}

/// Reads the body of a Complete request, in any of the five spellings clients use.
///
/// # Errors
/// What is wrong with the document, for the `Message` of `MalformedXML`; so for all that are read here.
pub(crate) fn parse_complete(body: &[u8]) -> Result<Vec<ListedPart>, String> {
    let body: CompleteBody = parse(body, "CompleteMultipartUpload")?;
    Ok(body.parts.into_iter().map(|part| ListedPart { number: part.number, etag: ETag::new(&part.etag) }).collect())
}

/// What a DeleteMultipleObjects request names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeleteList {
    pub quiet: bool,
    pub objects: Vec<DeleteObject>,
}

#[derive(Deserialize)]
struct DeleteBody {
    #[serde(rename = "Quiet", default)]
    quiet: Option<bool>,
    #[serde(rename = "Object", default)]
    objects: Vec<DeleteObject>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct DeleteObject {
    #[serde(rename = "Key")]
    pub key: String,
    /// `None`, or empty, for the latest.
    #[serde(rename = "VersionId", default)]
    pub version: Option<String>,
}

/// Reads the body of a DeleteMultipleObjects request.
pub(crate) fn parse_delete(body: &[u8]) -> Result<DeleteList, String> {
    let body: DeleteBody = parse(body, "Delete")?;
    Ok(DeleteList { quiet: body.quiet.unwrap_or(false), objects: body.objects })
}

#[derive(Deserialize)]
struct TaggingBody {
    #[serde(rename = "TagSet")]
    set: TagSet,
}

#[derive(Deserialize)]
struct TagSet {
    #[serde(rename = "Tag", default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "Value", default)]
    value: String,
}

/// Reads tags: keys and values, not yet checked.
pub(crate) fn parse_tagging(body: &[u8]) -> Result<Vec<(String, String)>, String> {
    let body: TaggingBody = parse(body, "Tagging")?;
    Ok(body.set.tags.into_iter().map(|tag| (tag.key, tag.value)).collect())
}

#[derive(Deserialize)]
struct RestoreBody {
    #[serde(rename = "Days", default)]
    days: Option<u32>,
}

/// Reads for how many days an object is restored.
pub(crate) fn parse_restore(body: &[u8]) -> Result<u32, String> {
    let body: RestoreBody = parse(body, "RestoreRequest")?;
    Ok(body.days.unwrap_or(1))
}

/// What a new bucket is asked to be.
#[derive(Default, Deserialize)]
pub(crate) struct CreateBucket {
    #[serde(rename = "StorageClass", default)]
    pub storage_class: Option<String>,
    #[serde(rename = "DataRedundancyType", default)]
    pub redundancy: Option<String>,
}

pub(crate) fn parse_create_bucket(body: &[u8]) -> Result<CreateBucket, String> {
    parse(body, "CreateBucketConfiguration")
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8], root: &str) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|_| "The body is not UTF-8.".to_owned())?;
    if root_of(text) != Some(root) {
        return Err(format!("The root element is not {root}."));
    }
    quick_xml::de::from_str(text).map_err(|error| error.to_string())
}

/// Name of the first element.
fn root_of(text: &str) -> Option<&str> {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    while let Some(after) = rest.strip_prefix("<?") {
        rest = after.split_once("?>")?.1.trim_start();
    }
    let name = rest.strip_prefix('<')?;
    name.split(|c: char| c == '>' || c == '/' || c.is_whitespace()).next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What XML can carry at all: no control characters but these two. A carriage return is a line feed in XML.
        #[test]
        fn what_is_written_is_read(texts in prop::collection::vec("([^\\p{Cc}\u{fffe}\u{ffff}]|[\\t\\n]| ){1,12}", 1..5)) {
            let mut document = Document::new("Delete");
            let mut tags = Document::new("Tagging");
            tags.open("TagSet");
            for text in &texts {
                document.open("Object");
                document.text("Key", text);
                document.close("Object");
                tags.open("Tag");
                tags.text("Key", text);
                tags.text("Value", text);
                tags.close("Tag");
            }
            tags.close("TagSet");
            let list = parse_delete(document.finish().as_bytes());
            let keys = list.map(|list| list.objects.into_iter().map(|object| object.key).collect::<Vec<_>>());
            prop_assert_eq!(keys, Ok(texts.clone()));
            let pairs: Vec<_> = texts.iter().map(|text| (text.clone(), text.clone())).collect();
            prop_assert_eq!(parse_tagging(tags.finish().as_bytes()), Ok(pairs));
        }

        #[test]
        fn parts_are_read_as_they_were_written(parts in prop::collection::vec((any::<u32>(), "[0-9A-F]{1,32}"), 0..5)) {
            let mut document = Document::new("CompleteMultipartUpload");
            for (number, etag) in &parts {
                document.open("Part");
                document.number("PartNumber", number);
                document.etag(etag);
                document.close("Part");
            }
            let wanted = parts.iter().map(|(number, etag)| ListedPart { number: *number, etag: ETag::new(etag) });
            prop_assert_eq!(parse_complete(document.finish().as_bytes()), Ok(wanted.collect()));
        }

        #[test]
        fn no_bytes_make_a_reader_panic(bytes: Vec<u8>, root in 0usize..4, text in "(<|>|/|&|;|<!\\[CDATA\\[|\\]\\]>|Key|Part|.){0,30}") {
            let root = ["Delete", "Tagging", "CompleteMultipartUpload", "CreateBucketConfiguration"][root];
            for body in [bytes, format!("<{root}>{text}</{root}>").into_bytes(), format!("<{root}{text}").into_bytes()] {
                let _ = (parse_delete(&body), parse_tagging(&body), parse_complete(&body), parse_create_bucket(&body).is_ok());
            }
        }
    }

    #[test]
    fn all_five_spellings_of_an_etag_are_read() {
        let samples: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/xml_samples.json")).expect("samples are JSON");
        let bodies = samples["request_bodies"].as_array().expect("request bodies");
        assert_eq!(bodies.len(), 5);
        for body in bodies {
            let parts = parse_complete(body["xml"].as_str().expect("xml").as_bytes()).expect("a body clients send");
            let wanted = body["parts"].as_array().expect("parts");
            assert_eq!(parts.len(), wanted.len(), "{}", body["id"]);
            for (part, wanted) in parts.iter().zip(wanted) {
                assert_eq!(wanted[0], part.number);
                assert_eq!(part.etag, ETag::new(wanted[1].as_str().expect("an ETag")));
            }
        }
    }

    #[test]
    fn an_empty_list_is_a_list() {
        for body in ["<CompleteMultipartUpload></CompleteMultipartUpload>", "<CompleteMultipartUpload/>"] {
            assert_eq!(parse_complete(body.as_bytes()), Ok(Vec::new()), "{body}");
        }
    }

    #[test]
    fn documents_that_are_not_a_complete_request_are_refused() {
        for bad in [
            "",
            "x",
            "<Delete></Delete>",
            "<CompleteMultipartUpload>",
            "\u{0}",
            "<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>",
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>",
            "<CompleteMultipartUpload><Part><PartNumber>-1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>",
        ] {
            assert!(parse_complete(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_encoded_only_when_asked() {
        let mut plain = Document::listing("L", false);
        plain.key("Key", "a/b c+");
        assert!(plain.finish().ends_with("<L><Key>a/b c+</Key></L>"));
        let mut encoded = Document::listing("L", true);
        encoded.key("Key", "a/b c+");
        assert!(encoded.finish().ends_with("<EncodingType>url</EncodingType><Key>a%2Fb%20c%2B</Key></L>"));
    }
}
