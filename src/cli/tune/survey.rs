//! What the machine and the line can do at all, each on its own: the settings that are found later have to bear out
//! against these figures.

use std::hint::black_box;
use std::time::{Duration, Instant};

use haul::model::crc64::crc64;
use haul::source::reread::{crc64_of_pieces, forget};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
use rustls::crypto::cipher::{AeadKey, Iv, OutboundChunks, OutboundPlainMessage};
use rustls::{ContentType, ProtocolVersion};
use serde::{Deserialize, Serialize};

use super::lab::{Lab, SampleFile};
use crate::cli::exit::Failure;

/// How long a figure that depends on nobody else is measured.
const MOMENT: Duration = Duration::from_millis(100);
/// Most bytes that are read to measure a disk.
const DISK_BYTES: u64 = 256 << 20;
/// Questions to the store on one connection.
const QUESTIONS: u32 = 10;
/// Longest record of TLS (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 << 10;

/// Rates are in bytes per second, times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    pub cores: u32,
    /// Reading the file in order, past the page cache as far as it can be emptied, CRC64 included.
    pub disk: f64,
    /// CRC64 of one core.
    pub crc64: f64,
    /// Encryption for TLS, AES-256-GCM, of one core.
    pub encryption: f64,
    /// From no connection to one that is ready: name, TCP and TLS.
    pub connection: f64,
    /// Shortest answer on a connection that is there.
    pub latency: f64,
    /// What one connection carries.
    pub one_connection: f64,
    /// What haul carries without a profile.
    pub automatic: f64,
}

/// # Errors
/// Exit code 3 if the file cannot be read.
pub fn disk(file: &SampleFile) -> Result<f64, Failure> {
    let file = file.open()?;
    forget(&file).map_err(haul::error::Error::from)?;
    let bytes = file.bytes().min(DISK_BYTES);
    let begun = Instant::now();
    crc64_of_pieces(&file, [bytes], || true).map_err(haul::error::Error::from)?;
    Ok(bytes as f64 / begun.elapsed().as_secs_f64())
}

pub fn checksum() -> f64 {
    let block = vec![0x5a; 1 << 20];
    rate(block.len(), || {
        black_box(crc64(black_box(&block)));
    })
}

/// `None` if the library refuses, which it does not with a suite of its own.
pub fn encryption() -> Option<f64> {
    let suite = TLS13_AES_256_GCM_SHA384.tls13()?;
    let mut encrypter = suite.aead_alg.encrypter(AeadKey::from([7; 32]), Iv::from([9; 12]));
    let record = vec![0x5a; RECORD_BYTES];
    let mut sequence = 0;
    Some(rate(RECORD_BYTES, || {
        let payload = OutboundChunks::Single(&record);
        let (typ, version) = (ContentType::ApplicationData, ProtocolVersion::TLSv1_3);
        let sealed = encrypter.encrypt(OutboundPlainMessage { typ, version, payload }, sequence);
        drop(black_box(sealed));
        sequence += 1;
    }))
}

/// Bytes per second of something that is done over and over for a moment.
fn rate(bytes: usize, mut work: impl FnMut()) -> f64 {
    let (begun, mut times) = (Instant::now(), 0u32);
    while begun.elapsed() < MOMENT {
        work();
        times += 1;
    }
    bytes as f64 * f64::from(times) / begun.elapsed().as_secs_f64()
}

/// Time for a connection, and for an answer on one that is there.
///
/// # Errors
/// See [`crate::cli::exit`].
pub async fn distance(lab: &mut Lab) -> Result<(Duration, Duration), Failure> {
    // The key may have to be fetched first.
    let client = lab.new_client(1)?;
    lab.ask(&client).await?;
    let mut latency = Duration::MAX;
    for _ in 0..QUESTIONS {
        latency = latency.min(lab.ask(&client).await?);
    }
    let first = lab.new_client(1)?;
    let connection = lab.ask(&first).await?.saturating_sub(latency);
    Ok((connection, latency))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How fast depends on the machine; that both were done does not.
    #[test]
    fn checksums_and_encryption_are_measured() {
        assert!(checksum() > 1e6);
        assert!(encryption().is_some_and(|rate| rate > 1e6));
    }
}
