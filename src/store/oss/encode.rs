//! The one percent-encoding of the protocol (specification, section 1.5): `A-Z a-z 0-9 - . _ ~` stay.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const ALL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &ALL.remove(b'/');

/// Encodes a query name or value: `/` too.
pub fn all(text: &str) -> String {
    utf8_percent_encode(text, ALL).to_string()
}

/// Encodes the path of an object: `/` stays.
pub fn path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}
