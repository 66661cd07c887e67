//! The durable memory of a transfer.

use std::path::PathBuf;

/// Why the durable memory of a transfer cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Choose another place for the checkpoint.
    #[error("cannot write the checkpoint {}: {cause}", path.display())]
    Unwritable { path: PathBuf, cause: std::io::Error },
    /// Another process runs this transfer: wait for it.
    #[error("the checkpoint {} is in use by another process", path.display())]
    Busy { path: PathBuf },
}
