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
use crate::store::operations::upload_part::UploadPart;

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
        let verified = compare(crc64, reply.crc64).inspect_err(|_| take_back(self.transfer, part.bytes))?;
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

/// Sends `bytes` bytes of the file from `at` as the body of `operation`; gives the reply and the checksum of what was
/// read. Takes its share of the progress back if it fails.
pub(super) async fn send_range<O: Operation + Sync>(
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
    std::mem::forget(undo);
    Ok((reply, crc64))
}

/// Takes what a failed or cancelled try has counted out of the progress again.
struct TakeBack<'a> {
    transfer: &'a Transfer,
    outcome: &'a super::body::Outcome,
}

impl Drop for TakeBack<'_> {
    fn drop(&mut self) {
        take_back(self.transfer, self.outcome.sent());
    }
}

pub(super) fn take_back(transfer: &Transfer, bytes: u64) {
    transfer.counters.bytes_sent.fetch_sub(bytes, std::sync::atomic::Ordering::Relaxed);
}

/// Whether the store named a checksum; an error if it differs.
pub(super) fn compare(sent: u64, received: Option<u64>) -> Result<bool, Failure> {
    match received {
        None => Ok(false),
        Some(received) if received == sent => Ok(true),
        Some(received) => Err(Failure::Corrupted { sent, received }),
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
