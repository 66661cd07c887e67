//! A file in one request.

use std::sync::atomic::Ordering::Relaxed;

use super::attempt::{Failure, read_crc64, send_range};
use super::exchange::Exchange;
use super::job::{Job, RESTARTS_MAX, Uploaded};
use super::one_state::{begin_again, confirm};
use crate::error::Error;
use crate::model::retry::FaultKind;
use crate::model::settings::UploadRequest;
use crate::source::SourceError;
use crate::store::Operation;
use crate::store::operations::ObjectStored;
use crate::store::operations::put::Put;

impl Job<'_> {
    /// The whole file in one request.
    pub async fn put(&self) -> Result<Uploaded, Error> {
        let (stored, crc64) = self.transfer.unless_cancelled(self.put_object()).await??;
        confirm(self, vec![(self.prepared.file.bytes(), crc64)]).await?;
        let verified = stored.crc64.is_some();
        self.transfer.counters.bytes_confirmed.store(self.prepared.file.bytes(), Relaxed);
        Ok(self.uploaded(stored, crc64, verified, None))
    }

    async fn put_object(&self) -> Result<(ObjectStored, u64), Error> {
        let bytes = self.prepared.file.bytes();
        let source = &self.prepared.chosen.source;
        let UploadRequest { bucket, key, options, .. } = self.request;
        let operation = Put { bucket, key, bytes, options };
        let mut exchange = Exchange::of_file(self.engine, self.transfer, Put::NAME, None);
        let mut may_be_there = false;
        let mut restarts = 0;
        loop {
            let sent = send_range(&exchange, self.transfer, source, &operation, 0, bytes).await;
            let failure = match sent {
                Ok(done) => return Ok(done),
                Err(Failure::Source(touched @ SourceError::Touched { .. })) if restarts < RESTARTS_MAX => {
                    restarts += 1;
                    begin_again(self, touched.to_string()).await?;
                    continue;
                }
                Err(failure) => failure,
            };
            let corrupted = match failure {
                Failure::Corrupted { sent, received } => Some(Error::PutCorrupted { sent, received }),
                _ => None,
            };
            let fault = failure.into_fault()?;
            if may_be_there && fault.kind == FaultKind::Conflict {
                // What is in the way may be what an earlier try left without our hearing of it.
                let crc64 = read_crc64(source, 0, bytes).await?;
                return self
                    .object_is(bytes, crc64, None)
                    .await?
                    .map(|stored| (stored, crc64))
                    .ok_or(exchange.failed(fault));
            }
            may_be_there |= fault.leaves_doubt();
            if !exchange.again(&fault).await {
                return Err(corrupted.unwrap_or_else(|| exchange.failed(fault)));
            }
        }
    }
}
