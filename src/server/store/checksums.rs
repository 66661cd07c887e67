//! Checksums of bytes on their way in: CRC64 always, MD5 where the store or the client wants it.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use super::Content;
use crate::model::crc64;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Running checksums.
pub(crate) struct Checksums {
    crc64: crc64::Digest,
    md5: Option<Md5>,
    bytes: u64,
}

/// Finished checksums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sums {
    pub crc64: u64,
    pub md5: Option<[u8; 16]>,
    pub bytes: u64,
}

impl Checksums {
    pub fn new(with_md5: bool) -> Self {
        Self { crc64: crc64::Digest::new(), md5: with_md5.then(Md5::new), bytes: 0 }
    }

    pub fn update(&mut self, chunk: &[u8]) {
        self.crc64.update(chunk);
        if let Some(md5) = &mut self.md5 {
            md5.update(chunk);
        }
        self.bytes += chunk.len() as u64;
    }

    /// How much there was so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn finish(self) -> Sums {
        Sums { crc64: self.crc64.finish(), md5: self.md5.map(|md5| md5.finalize().into()), bytes: self.bytes }
    }
}

impl Sums {
    /// Upper-case hex MD5; without one, as long a text made of checksum and length.
    pub fn etag(&self) -> String {
        match self.md5 {
            Some(md5) => format!("{:032X}", u128::from_be_bytes(md5)),
            None => format!("{:016X}{:016X}", self.crc64, self.bytes),
        }
    }

    /// As in the header `Content-MD5`.
    pub fn content_md5(&self) -> Option<String> {
        self.md5.map(|md5| STANDARD.encode(md5))
    }

    /// The checksums of all that there is to read.
    pub fn read(content: &(impl Content + ?Sized)) -> io::Result<Self> {
        let mut sums = Checksums::new(true);
        loop {
            let chunk = content.read(sums.bytes(), CHUNK)?;
            if chunk.is_empty() {
                return Ok(sums.finish());
            }
            sums.update(&chunk);
        }
    }

    /// The checksums of a whole body at hand.
    pub fn of(body: &[u8]) -> Self {
        let mut sums = Checksums::new(true);
        sums.update(body);
        sums.finish()
    }
}

/// The ETag of an object joined from parts: MD5 of their ETags, one after the other as text, then `-` and their count.
pub(crate) fn joined_etag(tags: impl ExactSizeIterator<Item = String>) -> String {
    let count = tags.len();
    let mut md5 = Md5::new();
    tags.for_each(|tag| md5.update(tag));
    format!("{:032X}-{count}", u128::from_be_bytes(md5.finalize().into()))
}

/// The ETag of an object after an append: of the tags before it and of what came.
pub(crate) fn appended_etag(before: &str, appended: &Sums) -> String {
    Sums::of(format!("{before}{}", appended.etag()).as_bytes()).etag()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_headers_are_those_of_known_bytes() {
        let sums = Sums::of(b"0123456789");
        assert_eq!(sums.content_md5().as_deref(), Some("eB5eJF1ptWaXm4bijSPyxw=="));
        assert_eq!(sums.etag(), "781E5E245D69B566979B86E28D23F2C7");
        assert_eq!(Sums::of(b"123456789").crc64, 11_051_210_869_376_104_954);
        let mut cheap = Checksums::new(false);
        cheap.update(b"123456789");
        assert_eq!(cheap.finish().etag(), "995DC9BBDF1939FA0000000000000009");
    }

    /// Parts and object as an official client was answered by the service.
    #[test]
    fn the_tag_of_a_joined_object_is_made_of_the_text_of_its_parts_tags() {
        let parts = ["4DE8075FB607DF4D13FBC480EA488EFA", "AF947EC157726CEA88ED83B3C989063B"];
        assert_eq!(joined_etag(parts.map(str::to_owned).into_iter()), "1C787C506EABFB9B45EAAA8DB039F4B2-2");
        assert_eq!(joined_etag(std::iter::empty()), "D41D8CD98F00B204E9800998ECF8427E-0");
    }
}
