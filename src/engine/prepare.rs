//! Before anything is sent: the file, the plan, the reader, the place of the checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Engine;
use super::receipt::check_place;
use super::slots::TUNED_MAX;
use crate::error::Error;
use crate::model::event::Event;
use crate::model::part::PartPlan;
use crate::model::settings::{CheckpointAt, Parallel, PartSize, ReaderKind, UploadRequest};
use crate::net::RATE_MIN;
use crate::os::name::with_suffix;
use crate::source::file::SourceFile;
use crate::source::watched::Watched;
use crate::source::{self, Chosen};

/// An upload that could start now.
pub(super) struct Prepared {
    pub file: Arc<SourceFile>,
    pub chosen: Chosen,
    /// Length of the parts in bytes, also where the file is smaller than one.
    pub part_bytes: u64,
    /// `None`: the file goes in a single PUT.
    pub plan: Option<PartPlan>,
    pub checkpoint: Option<PathBuf>,
    /// Length that was asked for, before it was moved into what the store takes.
    pub wanted_bytes: u64,
}

/// Opens the file, by `open`, and makes the plan. Blocks on the disk.
pub(super) fn prepare(
    engine: &Engine,
    request: &UploadRequest,
    open: impl FnOnce(&Path) -> Result<SourceFile, Error>,
) -> Result<Prepared, Error> {
    check(engine, request)?;
    let file = Arc::new(open(&request.file)?);
    let checkpoint = checkpoint_path(engine, request, file.path());
    request.receipt.as_deref().map_or(Ok(()), |place| check_place(place, &file, checkpoint.as_deref()))?;
    let limits = engine.store.limits();
    let wanted_bytes = match request.part_size {
        PartSize::Auto => PartPlan::auto_part_bytes(file.bytes()),
        PartSize::Bytes(bytes) => {
            let allowed = limits.part_bytes_min..=limits.part_bytes_max;
            if !allowed.contains(&bytes) {
                return Err(Error::Settings(format!(
                    "a part size of {bytes} bytes is outside what the store takes: {} to {} bytes",
                    allowed.start(),
                    allowed.end()
                )));
            }
            bytes
        }
    };
    let single_below = match request.part_size {
        PartSize::Auto => PartPlan::AUTO_SINGLE_BYTES,
        PartSize::Bytes(bytes) => bytes,
    };
    let single = file.bytes() < single_below && file.bytes() <= limits.put_bytes_max;
    let plan = if single { None } else { Some(PartPlan::new(file.bytes(), wanted_bytes, limits)?) };
    let Chosen { source, kind, reason } =
        source::choose(request.reader, &file, &engine.buffers, engine.memory.mapped_bytes)?;
    let watched = Watched::new(source, file.clone(), request.chunk_bytes, plan.is_none());
    let chosen = Chosen { source: Arc::new(watched), kind, reason };
    Ok(Prepared {
        chosen,
        part_bytes: plan.map_or(wanted_bytes, |p| p.part_bytes()),
        plan,
        checkpoint,
        file,
        wanted_bytes,
    })
}

fn check(engine: &Engine, request: &UploadRequest) -> Result<(), Error> {
    if let Parallel::Parts(parts) = request.parallel
        && !Parallel::PARTS.contains(&parts)
    {
        return Err(Error::Settings(format!("{parts} parts in flight are outside 1 to 1024")));
    }
    if let Some(bytes) = request.chunk_bytes.filter(|bytes| !UploadRequest::takes_chunks_of(*bytes)) {
        return Err(Error::Settings(format!("chunks of {bytes} bytes are no power of two from 65536 to 2097152")));
    }
    if let Parallel::Parts(parts) = request.parallel {
        engine.memory.check(parts).map_err(|e| Error::Settings(e.to_string()))?;
    }
    if let (Parallel::Parts(parts), Some(rate)) = (request.parallel, engine.max_rate)
        && u64::from(parts) * RATE_MIN > rate
    {
        let most = rate / RATE_MIN;
        return Err(Error::Settings(format!(
            "{parts} parts in flight at {rate} bytes/s: each needs {RATE_MIN} bytes/s at least, so have {most} in flight"
        )));
    }
    engine.store.check(&request.options).map_err(|e| Error::Settings(e.to_string()))
}

/// Makes the plan of an upload and sends nothing.
pub(crate) fn plan(engine: &Engine, request: &UploadRequest) -> Result<Event, Error> {
    let open = |path: &Path| Ok(SourceFile::open(path)?);
    Ok(prepare(engine, request, open)?.event(engine, request))
}

impl Prepared {
    pub fn event(&self, engine: &Engine, request: &UploadRequest) -> Event {
        Event::Planned {
            bytes: self.file.bytes(),
            parts: self.plan.map_or(0, |p| p.count()),
            part_bytes: self.part_bytes,
            part_bytes_wanted: (self.part_bytes != self.wanted_bytes).then_some(self.wanted_bytes),
            parallel: request.parallel,
            reader: self.chosen.kind,
            reader_reason: self.chosen.reason.clone(),
            checkpoint: self.checkpoint.clone(),
            buffer_bytes: self.buffer_bytes(engine, request.parallel),
            memory_bytes: engine.memory.limit,
            tuned: request.tuned.clone(),
        }
    }

    /// Chunks = parts in flight × (read-ahead + the one wanted now + the one on the wire), within the shared pool.
    fn buffer_bytes(&self, engine: &Engine, parallel: Parallel) -> u64 {
        if self.chosen.kind == ReaderKind::Mmap {
            return 0;
        }
        let parts = match parallel {
            Parallel::Auto => TUNED_MAX,
            Parallel::Parts(parts) => parts,
        };
        let chunks = u64::from(parts) * (self.chosen.source.read_ahead() as u64 + 2);
        (chunks * self.chosen.source.chunk_bytes() as u64).min(engine.buffers.bytes_max() as u64)
    }
}

fn checkpoint_path(engine: &Engine, request: &UploadRequest, file: &Path) -> Option<PathBuf> {
    match &request.checkpoint {
        CheckpointAt::Off => None,
        CheckpointAt::Path(path) => Some(path.clone()),
        // The log and its lock are named by text, so a name that is none is told from others by the hash.
        CheckpointAt::BesideFile if file.file_name().is_some_and(|name| name.to_str().is_none()) => {
            Some(file.with_file_name(hashed_name(engine, request, file)))
        }
        CheckpointAt::BesideFile => {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            Some(file.with_file_name(with_suffix(&name, ".cp")))
        }
        CheckpointAt::Directory(directory) => Some(directory.join(hashed_name(engine, request, file))),
    }
}

/// A name for a checkpoint, made of the file's name and a hash of file and destination.
fn hashed_name(engine: &Engine, request: &UploadRequest, file: &Path) -> String {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut hash = Sha256::new();
    for text in [
        absolute.as_os_str().as_encoded_bytes(),
        engine.endpoint_name.as_bytes(),
        request.bucket.as_str().as_bytes(),
        request.key.as_str().as_bytes(),
    ] {
        hash.update(text);
        hash.update([0]);
    }
    let short: String = hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    with_suffix(&name, &format!(".{short}.cp"))
}
