//! Files that are read as a whole and once, whatever stands at their path: a pipe gives its bytes to the first reader, and
//! a file may be another one the next time.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// Largest configuration, profile, certificate or key that is read, in bytes: the system's whole bundle of authorities has
/// a quarter of a MiB.
pub const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// All bytes of a file of at most `most` bytes.
///
/// # Errors
/// `InvalidData` for more, which `/dev/zero` has too; else what the system says.
pub fn read(path: &Path, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    // Large enough from the start: a buffer that grows leaves copies of secrets behind. A pipe does not say what comes.
    let expected = if meta.is_file() { meta.len().min(most) } else { most.min(CONFIG_BYTES_MAX) };
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected as usize + 1));
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 <= most { Ok(bytes) } else { Err(invalid(format!("it is larger than {}", size(most)))) }
}

/// The text of such a file; see [`text`].
///
/// # Errors
/// As [`read`] and [`text`].
pub fn read_text(path: &Path, most: u64) -> io::Result<Zeroizing<String>> {
    text(&read(path, most)?)
}

/// What `bytes` say: UTF-8, or UTF-16 with a byte order mark, as some editors write. The mark is not part of the text.
///
/// # Errors
/// `InvalidData` for everything else.
pub fn text(bytes: &[u8]) -> io::Result<Zeroizing<String>> {
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => {
            let text = std::str::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8"))?;
            Ok(Zeroizing::new(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned()))
        }
    }
}

/// `bytes` for a parser that looks for ASCII lines in them, such as PEM: as UTF-8 without a mark if they are text, else as
/// they are.
pub fn plain(bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    match text(&bytes) {
        Ok(text) => Zeroizing::new(text.as_bytes().to_vec()),
        Err(_) => bytes,
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> io::Result<Zeroizing<String>> {
    let broken = || invalid("its byte order mark is that of UTF-16, but the rest is not");
    let (pairs, []) = bytes.as_chunks::<2>() else { return Err(broken()) };
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 3 / 2));
    for character in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        text.push(character.map_err(|_| broken())?);
    }
    Ok(text)
}

fn size(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_refused() {
        let read = |path| read(Path::new(path), CONFIG_BYTES_MAX);
        assert_eq!(read("/dev/zero").unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(read("/dev/null").unwrap().as_slice(), b"");
    }

    #[test]
    fn byte_order_marks_are_understood_and_what_is_no_text_is_refused() {
        let wide = |mark: [u8; 2], unit: fn(u16) -> [u8; 2]| {
            mark.into_iter().chain("ké🦀\r\n".encode_utf16().flat_map(unit)).collect::<Vec<u8>>()
        };
        let utf8 = "ké🦀\r\n".as_bytes();
        for bytes in [
            utf8.to_vec(),
            [b"\xef\xbb\xbf", utf8].concat(),
            wide([0xff, 0xfe], u16::to_le_bytes),
            wide([0xfe, 0xff], u16::to_be_bytes),
        ] {
            assert_eq!(*text(&bytes).unwrap(), "ké🦀\r\n");
            assert_eq!(plain(Zeroizing::new(bytes)).as_slice(), utf8);
        }
        for bytes in [&b"\xff\xfeodd"[..], b"\xff\xfe\x00\xd8", b"caf\xe9"] {
            assert_eq!(text(bytes).unwrap_err().kind(), ErrorKind::InvalidData, "{bytes:?}");
            assert_eq!(plain(Zeroizing::new(bytes.to_vec())).as_slice(), bytes);
        }
    }
}
