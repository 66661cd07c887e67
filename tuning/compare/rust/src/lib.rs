//! What the programs of the comparison share: the upload they are asked for, and the bytes of its file.

use std::error::Error;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::Bytes;
use serde::Deserialize;

/// One upload, as every driver gets it: a JSON object in the last argument.
#[derive(Debug, Deserialize)]
pub struct Upload {
    pub file: PathBuf,
    /// `http://127.0.0.1:PORT`, or https.
    pub endpoint: String,
    pub key: String,
    /// In bytes.
    pub part_size: u64,
    /// Parts in flight.
    pub parallel: usize,
    /// Checksums as the client has them by default; false: switched off.
    pub checks: bool,
    /// PEM file of the authority to trust, over TLS.
    pub ca: Option<PathBuf>,
    /// Set the client up, send nothing, end.
    #[serde(default)]
    pub startup: bool,
}

impl Upload {
    pub fn from_arguments() -> Result<Self, Box<dyn Error>> {
        let last = std::env::args().next_back().unwrap_or_default();
        Ok(serde_json::from_str(&last)?)
    }

    /// The parts of the file, in order; none of an empty file.
    pub fn parts(&self) -> std::io::Result<Vec<Range<u64>>> {
        let len = self.file.metadata()?.len();
        let starts = (0..len).step_by(self.part_size as usize);
        Ok(starts.map(|start| start..len.min(start + self.part_size)).collect())
    }
}

/// Reads a range of a file into memory of its own.
pub fn read(file: &File, range: &Range<u64>) -> std::io::Result<Bytes> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}
