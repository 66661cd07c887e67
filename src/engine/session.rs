//! The durable memory of one upload while it runs: what is known, and the log that it is kept in.

use super::job::{Job, Uploaded};
use super::resume::{abort_abandoned, abort_or_tell};
use crate::checkpoint::{Checkpoint, CheckpointError, Claims, Found, Journal, Record};
use crate::error::Error;
use crate::model::event::Event;

/// A checkpoint that is open. What a step relies on is durable before the step begins.
pub(super) struct Session {
    journal: Journal,
    pub checkpoint: Checkpoint,
    /// Parts that were recorded for a file which may be another one now.
    pub claims: Claims,
    /// Why nothing of what was found is used.
    started_over: Option<String>,
}

impl Session {
    /// A session with what [`Journal::open`] found.
    pub fn new(journal: Journal, checkpoint: Checkpoint, found: Found) -> Self {
        let (claims, started_over) = match found {
            Found::Moved(claims) => (claims, None),
            Found::Nothing | Found::Resumed => (Claims::default(), None),
            Found::StartedOver { reason } => (Claims::default(), Some(reason)),
        };
        Self { journal, checkpoint, claims, started_over }
    }

    /// Says what was found, and aborts the uploads that are not resumed.
    pub async fn begin(&mut self, job: &Job<'_>) -> Result<(), Error> {
        if let Some(reason) = self.started_over.take() {
            job.transfer.tell(Event::StartedOver { reason });
        }
        job.transfer.unless_cancelled(abort_abandoned(job, self)).await?
    }

    /// Where parts are recorded.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Takes a fact in; it is durable soon.
    pub fn record(&mut self, record: Record) -> Result<(), CheckpointError> {
        self.checkpoint.apply(record.clone());
        self.journal.record(record)
    }

    /// Takes a fact in, and returns when it, and every fact before it, is durable.
    pub async fn record_durably(&mut self, record: Record) -> Result<(), CheckpointError> {
        self.record(record)?;
        self.journal.barrier().await
    }

    /// Ends the checkpoint of a run that ended with `result`. After a success it is removed; that it cannot be is no
    /// failure of the upload. What is in the store stays known, whatever ended the run, and its error is the one to report.
    pub async fn close(self, job: &Job<'_>, result: Result<Uploaded, Error>) -> Result<Uploaded, Error> {
        match &result {
            Ok(_) => {
                abort_or_tell(job, &self.checkpoint.abandoned).await;
                if let Err(error) = self.journal.remove().await {
                    let message = format!("the object is stored, but its checkpoint cannot be removed: {error}");
                    job.transfer.tell(Event::Warning { message });
                }
            }
            // The object is not to be relied on: the next run sends the file again.
            Err(Error::RereadDiffers { .. }) => drop(self.journal.remove().await),
            Err(_) if self.checkpoint.names_no_upload() => drop(self.journal.remove().await),
            Err(_) => drop(self.journal.barrier().await),
        }
        result
    }
}
