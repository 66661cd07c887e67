//! One try of one part: read, checksum, send, compare.

use std::sync::Arc;

use http_body_util::BodyExt;

use super::Engine;
use super::body::RangeBody;
use super::exchange::Exchange;
use super::transfer::Transfer;
use crate::checkpoint::StoredPart;
use crate::model::crc64::Digest;
use crate::model::object::{Bucket, Key, UploadId};
use crate::model::part::Part;
use crate::model::retry::{Fault, FaultKind};
use crate::model::settings::ObjectOptions;
use crate::source::{Source, SourceError};
use crate::store::Operation;
use crate::store::operations::ObjectStored;
use crate::store::operations::upload_part::{PartReceived, UploadPart};

/// Why a try failed.
pub(super) enum Failure {
    /// The file cannot be read: no other try will help.
    Source(SourceError),
    /// The store has other bytes than were read.
    Corrupted {
        sent: u64,
        received: u64,
    },
    Fault(Fault),
}

/// A multipart upload, and the file it is made of.
pub(super) struct Upload<'a> {
    pub engine: &'a Engine,
    pub transfer: &'a Arc<Transfer>,
    pub source: &'a Arc<dyn Source>,
    pub bucket: &'a Bucket,
    pub key: &'a Key,
    pub options: &'a ObjectOptions,
    pub upload_id: &'a UploadId,
}

/// What the store confirmed, and whether it named a checksum.
pub(super) struct Confirmed {
    pub part: StoredPart,
    pub verified: bool,
}

impl Upload<'_> {
    /// The exchange of a part that has not been tried yet.
    pub fn exchange(&self, part: &Part) -> Exchange<'_> {
        Exchange::of_file(self.engine, self.transfer, UploadPart::NAME, Some(part.number))
    }

    pub async fn attempt(&self, part: &Part, exchange: &Exchange<'_>) -> Result<Confirmed, Failure> {
        let operation = UploadPart {
            bucket: self.bucket,
            key: self.key,
            upload_id: self.upload_id,
            number: part.number,
            bytes: part.bytes,
            options: self.options,
        };
        let sent = send_range(exchange, self.transfer, self.source, &operation, part.offset, part.bytes);
        let (reply, crc64) = sent.await?;
        let verified = reply.crc64.is_some();
        self.transfer.confirmed_by(part.number, reply.request_id);
        Ok(Confirmed { part: StoredPart { bytes: part.bytes, etag: reply.etag, crc64 }, verified })
    }
}

/// The checksum of the `bytes` bytes that the file has at `from`.
pub(super) async fn read_crc64(source: &Arc<dyn Source>, from: u64, bytes: u64) -> Result<u64, SourceError> {
    let mut digest = Digest::new();
    let (mut at, end) = (from, from + bytes);
    while at < end {
        let bytes = source.chunk_at(at, end);
        digest.update(&source.read(at, bytes).await?);
        at += bytes as u64;
    }
    source.check()?;
    Ok(digest.finish())
}

/// Sends `bytes` bytes of the file from `at` as the body of `operation`; returns the reply and the checksum of what was
/// read, which the store's, if it named one, equals. Takes its share of the progress back if it fails.
pub(super) async fn send_range<O: Operation<Reply: Checked> + Sync>(
    exchange: &Exchange<'_>,
    transfer: &Arc<Transfer>,
    source: &Arc<dyn Source>,
    operation: &O,
    at: u64,
    bytes: u64,
) -> Result<(O::Reply, u64), Failure> {
    let (body, outcome) = RangeBody::new(source.clone(), transfer.clone(), exchange.stage(), at, bytes);
    let undo = TakeBack { transfer, outcome: &outcome };
    let result = exchange.send(operation, Some(body.boxed_unsync())).await;
    if let Some(error) = outcome.take_error() {
        return Err(Failure::Source(error));
    }
    // A file that was cut while it was mapped shows here, not as a failed read.
    source.check().map_err(Failure::Source)?;
    let reply = result.map_err(Failure::Fault)?;
    let crc64 = outcome.crc64().ok_or_else(|| {
        Failure::Fault(Fault::new(FaultKind::Protocol, "the store answered before it had taken the whole body"))
    })?;
    if let Some(received) = reply.crc64().filter(|received| *received != crc64) {
        return Err(Failure::Corrupted { sent: crc64, received });
    }
    undo.disarm();
    Ok((reply, crc64))
}

/// A reply to bytes of the file.
pub(super) trait Checked {
    /// Checksum of what the store received, if it named one.
    fn crc64(&self) -> Option<u64>;
}

impl Checked for PartReceived {
    fn crc64(&self) -> Option<u64> {
        self.crc64
    }
}

impl Checked for ObjectStored {
    fn crc64(&self) -> Option<u64> {
        self.crc64
    }
}

/// Takes what a failed or cancelled try has counted out of the progress again.
struct TakeBack<'a> {
    transfer: &'a Transfer,
    outcome: &'a super::body::Outcome,
}

impl TakeBack<'_> {
    /// The try has succeeded.
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for TakeBack<'_> {
    fn drop(&mut self) {
        self.transfer.counters.bytes_sent.fetch_sub(self.outcome.sent(), std::sync::atomic::Ordering::Relaxed);
    }
}

impl Failure {
    /// The failure as a fault, for the retry policy; source errors are not for it.
    pub fn into_fault(self) -> Result<Fault, SourceError> {
        match self {
            Self::Source(error) => Err(error),
            Self::Fault(fault) => Ok(fault),
            Self::Corrupted { sent, received } => Ok(Fault::new(
                FaultKind::Corrupted,
                format!("CRC64 read {sent:016x}, received by the store {received:016x}"),
            )),
        }
    }
}
