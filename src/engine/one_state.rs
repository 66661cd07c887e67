//! That the object is one state of the file: what was sent is compared once more when something happened to the file that
//! may have changed bytes and need not.

use super::job::{Job, blocking};
use crate::error::Error;
use crate::model::event::Event;
use crate::source::reread::prove;

/// Makes sure that `sent`, lengths and checksums of all pieces of the file in their order, are of the state that it has
/// now.
///
/// # Errors
/// [`crate::source::SourceError::Changed`] if they are not.
pub(super) async fn confirm(job: &Job<'_>, sent: Vec<(u64, u64)>) -> Result<(), Error> {
    let (transfer, file) = (job.transfer.clone(), job.prepared.file.clone());
    blocking(move || {
        file.check_unchanged()?;
        if !file.is_in_doubt() {
            return Ok(());
        }
        let why = "the file's name or metadata were changed while it was sent".to_owned();
        transfer.tell(Event::Comparing { parts: sent.len() as u32, bytes: file.bytes(), why });
        wanted(prove(&file, &sent, |wait| transfer.settles(wait))?)
    })
    .await
}

/// Before a file is sent from its start again, because it was touched.
///
/// # Errors
/// [`crate::source::SourceError::Changed`] if it is another state by now, or is touched all the time.
pub(super) async fn begin_again(job: &Job<'_>, reason: String) -> Result<(), Error> {
    let (transfer, file) = (job.transfer.clone(), job.prepared.file.clone());
    blocking(move || {
        transfer.tell(Event::StartedOver { reason });
        wanted(file.settle(|wait| transfer.settles(wait))?)
    })
    .await
}

fn wanted(wanted: bool) -> Result<(), Error> {
    if wanted { Ok(()) } else { Err(Error::Cancelled) }
}
