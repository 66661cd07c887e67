//! Documents: read with bounds, unknown elements skipped; keys decoded where the store encoded them.

use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::shown::shown;
use crate::model::retry::{Fault, FaultKind};

/// Largest document that is read, in bytes: a page of 1,000 uploads with the longest keys has about 4 MiB.
const BYTES_MAX: usize = 16 << 20;

/// Reads a document into `T`, whatever its root is called.
///
/// # Errors
/// A protocol fault if it is too large, not UTF-8, or lacks something `T` needs.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    // The parser's messages repeat names and values of the document, however long.
    let wrong =
        |why: String| Fault::new(FaultKind::Protocol, format!("the answer is not the expected XML: {}", shown(&why)));
    if body.len() > BYTES_MAX {
        return Err(wrong(format!("{} bytes are too many", body.len())));
    }
    let text = std::str::from_utf8(body).map_err(|e| wrong(e.to_string()))?;
    quick_xml::de::from_str(text).map_err(|e| wrong(e.to_string()))
}

/// The bytes of a key-like field, decoded if the document says that it is encoded (`+` is a space: specification, section
/// 4.0).
pub fn decoded(text: &str, encoding: Option<&str>) -> Vec<u8> {
    match encoding {
        Some("url") => percent_decode_str(&text.replace('+', " ")).collect(),
        _ => text.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Loose {
        #[serde(rename = "Code")]
        _code: Option<String>,
    }

    proptest! {
        #[test]
        fn no_document_makes_the_reader_panic(body: Vec<u8>, tags in "[<>/a-z&;# \"=!\\[\\]-]{0,200}") {
            let _ = read::<Loose>(&body);
            let _ = read::<Loose>(tags.as_bytes());
            let _ = decoded(&tags, Some("url"));
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_a_line_however_long_the_document() {
        let name = "\u{1b}[2J".repeat(100_000);
        for wrong in [format!("<a><{name}>"), format!("<a><Code></{name}>"), format!("<a>&{name};</a>")] {
            let said = read::<Loose>(wrong.as_bytes()).err().map(|fault| fault.to_string()).unwrap_or_default();
            assert!(said.len() < 1000 && !said.contains('\u{1b}'), "{}", said.len());
        }
    }

    #[test]
    fn entities_are_not_expanded() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"x\"><!ENTITY c \"&b;&b;\">]><a><Code>&c;</Code></a>";
        assert!(read::<Loose>(bomb.as_bytes()).is_err());
    }

    #[test]
    fn deep_nesting_is_no_danger() {
        let deep = "<a>".repeat(200_000);
        assert!(read::<Loose>(deep.as_bytes()).is_err());
    }
}
