//! Why a transfer stopped: wraps the errors of the layers below.

use crate::model::object::NameError;
use crate::model::part::{PartNumber, PlanError};
use crate::model::retry::{Fault, FaultKind};
use crate::net::tls::TlsError;
use crate::source::SourceError;

/// Why something was not done, named by what the caller can do about it. Never carries a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Correct the settings; nothing was sent.
    #[error("{0}")]
    Settings(String),
    /// Correct the name; nothing was sent.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Split the object.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Look at the file.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Look at the disk that holds the checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// The exchange cannot succeed, or did not in all attempts the policy allows: see the kind of the fault.
    #[error("{operation}: {fault}{}", tried(*attempts))]
    Exchange { operation: &'static str, attempts: u32, fault: Box<Fault> },
    /// Every attempt delivered other bytes than were read: suspect memory, disk or network; do not resume blindly.
    #[error("part {part}: the CRC64 of what was read is {sent:016x}, of what the store received {received:016x}")]
    PartCorrupted { part: PartNumber, sent: u64, received: u64 },
    /// The same of an object that goes in one PUT. It may be in the store, and is not the file: upload again.
    #[error("the CRC64 of what was read is {sent:016x}, of the object that the store received {received:016x}")]
    PutCorrupted { sent: u64, received: u64 },
    /// The finished object is not the file: upload again. If the store had confirmed every part (`parts_unverified` is
    /// 0), suspect the store.
    #[error("the CRC64 of the file is {sent:016x}, of the object in the store {received:016x}, {}", confirmed(*parts_unverified))]
    ObjectCorrupted { sent: u64, received: u64, parts_unverified: u32 },
    /// The disk gives other bytes than were uploaded, though the file was not changed: suspect disk and memory, and find
    /// out which of the two is right. `part` is the first that differs; none for a single PUT.
    #[error("{}: the CRC64 of what was uploaded is {sent:016x}, read again from the disk it is {reread:016x}", piece(*part))]
    RereadDiffers { part: Option<PartNumber>, sent: u64, reread: u64 },
    /// Write the receipt elsewhere; nothing was sent.
    #[error("cannot write the receipt {}: {cause}", path.display())]
    Receipt { path: std::path::PathBuf, cause: std::io::Error },
    /// Write the receipt elsewhere: the object is stored. Where a checkpoint is kept, nothing is sent again.
    #[error("the object is stored, but its receipt {} cannot be written: {cause}", path.display())]
    StoredWithoutReceipt { path: std::path::PathBuf, cause: std::io::Error },
    /// The caller asked for it; the checkpoint is synced, so the same upload goes on later.
    #[error("cancelled")]
    Cancelled,
    /// The machine refused something haul cannot do without.
    #[error("cannot {what}: {cause}")]
    System { what: &'static str, cause: std::io::Error },
    /// Name certificates that can be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn tried(attempts: u32) -> String {
    if attempts > 1 { format!(" (gave up after {attempts} attempts)") } else { String::new() }
}

fn confirmed(parts_unverified: u32) -> String {
    match parts_unverified {
        0 => "though the store had confirmed the checksum of every part".to_owned(),
        n => format!("and the store had named no checksum of {n} of the parts"),
    }
}

fn piece(part: Option<PartNumber>) -> String {
    part.map_or("the file".to_owned(), |part| format!("part {part} of the file"))
}

impl Error {
    /// The system gave no threads, or no memory for them.
    pub fn threads(cause: std::io::Error) -> Self {
        Self::System { what: "start threads", cause }
    }

    /// The kind of the fault that ended an exchange, if one did.
    pub fn fault_kind(&self) -> Option<FaultKind> {
        match self {
            Self::Exchange { fault, .. } => Some(fault.kind),
            _ => None,
        }
    }
}
