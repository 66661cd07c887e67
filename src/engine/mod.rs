//! The transfer.
//!
//! | file | subject |
//! |---|---|
//! | `upload.rs` | the protocol of one upload, top to bottom |
//! | `job.rs` | what every step of it needs, and what it ends with |
//! | `session.rs` | its checkpoint while it runs |
//! | `put.rs` | a file in one request |
//! | `complete.rs` | merging the parts, and telling whether an object is ours |
//! | `prepare.rs` | file, plan, reader and checkpoint path, before anything is sent |
//! | `resume.rs` | what of an interrupted upload is still good |
//! | `worker.rs` | taking parts from the queue until none is left or one cannot be sent |
//! | `attempt.rs` | one try of one part |
//! | `body.rs` | a range of the file as a request body, checksummed as it passes |
//! | `one_state.rs` | comparing what was sent when the file was touched meanwhile |
//! | `receipt.rs` | after the object is stored: reading the file again, the receipt |
//! | `memory.rs`, `cgroup.rs` | what a client may hold in memory |
//! | `slots.rs` | places for parts in flight: a number, or one that is tuned |
//! | `explain.rs` | where the time went |
//! | `exchange.rs` | one operation, tried again as the policy allows |
//! | `endpoint.rs` | how the endpoint is: its clock, its pace, what may be tried again |
//! | `keyring.rs` | the credentials that requests are signed with now |
//! | `fetch.rs`, `process.rs` | asking sources for credentials |
//! | `transfer.rs` | what a running transfer shares: progress, events, cancellation |
//! | `simulation/` | the whole of it with a store in memory and a disk that loses power; tests only |

use std::sync::Arc;

use crate::model::retry::RetryPolicy;
use crate::net::Transport;
use crate::source::buffer::BufferPool;
use crate::store::Store;

mod attempt;
mod body;
mod cgroup;
mod complete;
mod endpoint;
mod exchange;
mod explain;
mod fetch;
mod job;
pub(crate) mod keyring;
pub(crate) mod memory;
mod one_state;
mod prepare;
mod process;
mod put;
mod receipt;
mod resume;
mod session;
#[cfg(test)]
mod simulation;
mod slots;
pub(crate) mod transfer;
mod upload;
mod worker;

pub(crate) use endpoint::Endpoint;
pub use job::Uploaded;
pub(crate) use prepare::plan;
pub(crate) use slots::{Slots, TUNED_MAX};
pub(crate) use upload::upload;

/// What all transfers of a client share.
pub(crate) struct Engine {
    pub transport: Arc<dyn Transport>,
    pub store: Store,
    /// `None`: requests are not signed.
    pub keyring: Option<Arc<keyring::Keyring>>,
    pub retry: RetryPolicy,
    pub endpoint: Endpoint,
    pub buffers: BufferPool,
    pub memory: memory::Memory,
    /// What checkpoints call the endpoint.
    pub endpoint_name: String,
    /// Threads for network and checksums.
    pub threads: usize,
    /// Whether transfers tell at their end where their time went.
    pub explain: bool,
    /// Bytes per second that all transfers together may send.
    pub max_rate: Option<u64>,
}
