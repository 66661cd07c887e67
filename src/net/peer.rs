//! What the other end of a connection speaks, if it is not HTTP/1: told by what it says first.

use std::ascii::escape_default;

/// Said of a server for TLS that is spoken to without.
pub(super) const TLS: &str = "speaks TLS: write https:// instead of http://";

/// The type of the frame with which a server begins to speak HTTP/2, on stream 0 (RFC 9113, sections 3.4 and 6.5).
const SETTINGS: u8 = 4;

/// What is wrong with a server whose answer begins with `first`, which is cut after some bytes; `None` if nothing is, or
/// too little came to tell.
pub(super) fn mistaken(first: &[u8]) -> Option<String> {
    const ANSWER: &[u8] = b"HTTP/1.";
    let seen = first.len().min(ANSWER.len());
    if first[..seen] == ANSWER[..seen] {
        return None;
    }
    Some(match first {
        _ if is_tls(first) => TLS.to_owned(),
        [_, _, _, SETTINGS, _, 0, 0, 0, 0, ..] => "speaks HTTP/2 only, and haul speaks HTTP/1.1".to_owned(),
        _ => {
            let shown: String = first.iter().flat_map(|byte| escape_default(*byte)).map(char::from).collect();
            format!("does not speak HTTP: what it says begins with \"{shown}\"")
        }
    })
}

/// Whether this is the beginning of a handshake or an alert of TLS (RFC 8446, section 5.1).
pub(super) fn is_tls(first: &[u8]) -> bool {
    matches!(first, [0x15 | 0x16, 3, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_http_is_told_by_what_it_says_first() {
        for (first, wanted) in [
            (&b"\x15\x03\x01\x00\x02\x02\x32"[..], "https://"),
            (b"\x16\x03\x03\x00\x7a\x02", "https://"),
            (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03", "HTTP/2 only"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "begins with \"SSH-2.0-OpenSSH_9.2\\r\\n\""),
            (b"\x1b[2J", "\\x1b[2J"),
            (b"HTTP/2 200", "does not speak HTTP"),
        ] {
            let said = mistaken(first);
            assert!(said.as_ref().is_some_and(|said| said.contains(wanted)), "{first:?}: {said:?}");
        }
        for fine in ["", "H", "HTTP/1", "HTTP/1.1 200 OK", "HTTP/1.0 400 Bad Request"] {
            assert_eq!(mistaken(fine.as_bytes()), None, "{fine}");
        }
    }
}
