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
        self.text.push_str(&escape(value));
        self.close(name);
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
fn iso(at: SystemTime) -> String {
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
/// What is wrong with the document, for the `Message` of `MalformedXML`.
pub(crate) fn parse_complete(body: &[u8]) -> Result<Vec<ListedPart>, String> {
    let text = std::str::from_utf8(body).map_err(|_| "The body is not UTF-8.".to_owned())?;
    if root_of(text) != Some("CompleteMultipartUpload") {
        return Err("The root element is not CompleteMultipartUpload.".to_owned());
    }
    let body: CompleteBody = quick_xml::de::from_str(text).map_err(|error| error.to_string())?;
    Ok(body.parts.into_iter().map(|part| ListedPart { number: part.number, etag: ETag::new(&part.etag) }).collect())
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
    use super::*;

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
