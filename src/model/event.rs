//! How a transfer tells the world what it does.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::explain::{Costs, Limit};
use super::object::{Bucket, Key, UploadId};
use super::settings::{Parallel, ReaderKind};

/// Something that happened in a transfer. Serialised, the variant's name is the field `event`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The file is open and the plan made; nothing was sent yet.
    Planned {
        /// Length of the file in bytes.
        bytes: u64,
        /// 0 means a single PUT.
        parts: u32,
        part_bytes: u64,
        /// Set when `part_bytes` was raised above the wanted length to stay within 10,000 parts.
        part_bytes_wanted: Option<u64>,
        parallel: Parallel,
        reader: ReaderKind,
        /// Why this reader.
        reader_reason: String,
        /// Serialised, what is not UTF-8 in it is replaced by U+FFFD.
        #[serde(serialize_with = "lossy")]
        checkpoint: Option<PathBuf>,
        /// Upper bound of the pooled buffers of this transfer, in bytes.
        buffer_bytes: u64,
        /// What the client may hold in buffers and connections, in bytes: as asked for, or a share of what the control group of
        /// the process allows; `None` without a limit.
        memory_bytes: Option<u64>,
        /// Profile of `haul tune` that some of this was taken from. Serialised as `checkpoint` is.
        #[serde(serialize_with = "lossy")]
        tuned: Option<PathBuf>,
    },
    /// The file was written so short a time ago that its filesystem could give a later write the same time: reading begins
    /// when that is over, if the file is still the same then.
    Settling { wait_ms: u64 },
    /// A checkpoint was found and is good: this much is already in the store.
    Resumed { upload_id: UploadId, parts: u32, bytes: u64 },
    /// This much is in the store, but not known to be of this file: it is read again, and a part counts when its checksum
    /// agrees. `why`: the identity of the file changed, or the checkpoint does not know the parts.
    Comparing { parts: u32, bytes: u64, why: String },
    /// A checkpoint was found and cannot be used, or the file changed while it was read and is sent from the start.
    StartedOver { reason: String },
    /// The store opened an upload, and its id is durable.
    Initiated { upload_id: UploadId },
    /// A part is in the store and its checksum agrees (`verified`), or the store named none.
    PartDone {
        part: u32,
        bytes: u64,
        /// Serialised as decimal text, as OSS writes it: JSON numbers lose digits in many readers.
        #[serde(serialize_with = "as_text")]
        crc64: u64,
        /// 0: the part was in the store already and is now known to be good.
        attempts: u32,
        verified: bool,
    },
    /// An exchange failed in passing and is tried again after `delay_ms`.
    Retrying { operation: &'static str, part: Option<u32>, attempt: u32, delay_ms: u64, fault: String },
    /// A part took `after_ms`, much longer than others did, and is sent once more on another connection.
    Hedged { part: u32, after_ms: u64 },
    /// So many parts may be in flight from now on, as the store confirmed `bytes_per_second` with the number before.
    Window { parallel: u32, bytes_per_second: u64 },
    /// All parts are there; the store is asked to merge them.
    Completing { parts: u32 },
    /// The object is stored; the file is read once more to compare it.
    Rereading { bytes: u64 },
    /// The transfer has ended, well or not. What its parts in flight spent their time on, summed over them, and what limits
    /// the speed.
    Explained {
        seconds: f64,
        /// Processor time of the whole process.
        cpu_seconds: f64,
        stages: Costs,
        limit: Limit,
        /// Names the limit, and the knob that would move it.
        sentence: String,
    },
    /// An upload of an earlier run, or of this one, could not be aborted: it stays open in the store, which charges for its
    /// parts, and nothing remembers it any more. It has to be aborted by hand.
    LeftOpen { endpoint: String, bucket: Bucket, key: Key, upload_id: UploadId, why: String },
    /// Something a person should know that does not stop the transfer.
    Warning { message: String },
}

/// How far a transfer is. All counts only grow, but for `bytes_sent`, which falls back when a part is sent
/// again, and for all of them when a file that changed is sent from the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Length of the object; 0 until it is planned.
    pub bytes_total: u64,
    /// Bytes in the store or handed to the network, resumed parts included.
    pub bytes_sent: u64,
    /// Bytes confirmed by the store, resumed parts included.
    pub bytes_confirmed: u64,
    pub parts_total: u32,
    /// Parts confirmed by the store, resumed ones included.
    pub parts_done: u32,
    pub parts_resumed: u32,
}

/// What an exchange in flight is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// Its turn: the store asked for fewer requests.
    Turn,
    /// The moment for another try.
    BackOff,
    /// A connection: name, TCP, proxy, TLS.
    Connection,
    /// The file to be read, or the network to take its bytes.
    Sending,
    /// The first byte of the answer.
    Answer,
    /// The rest of the answer.
    Receiving,
}

/// One exchange in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Activity {
    /// Name of the operation, as OSS calls it.
    pub operation: &'static str,
    /// Number of the part, where the operation has one.
    pub part: Option<u32>,
    /// From 1.
    pub attempt: u32,
    pub step: Step,
    /// How long it has been at that step.
    pub since: Duration,
    /// Bytes of the request's body handed to the network in this try.
    pub bytes_sent: u64,
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation)?;
        if let Some(part) = self.part {
            write!(f, " of part {part}")?;
        }
        write!(f, ", try {}: ", self.attempt)?;
        match self.step {
            Step::Turn => f.write_str("waits for its turn, as the store asked for fewer requests")?,
            Step::BackOff => f.write_str("waits to try again")?,
            Step::Connection => f.write_str("waits for a connection")?,
            Step::Sending => write!(f, "is being sent, {} bytes so far", self.bytes_sent)?,
            Step::Answer => write!(f, "waits for the answer, {} bytes sent", self.bytes_sent)?,
            Step::Receiving => f.write_str("receives the answer")?,
        }
        write!(f, ", for {:.1} s", self.since.as_secs_f64())
    }
}

/// Hears about a transfer. Called with no lock held, from the engine's threads: return quickly.
pub trait Observer: Send + Sync {
    fn event(&self, event: &Event);
}

fn as_text<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

fn lossy<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}
