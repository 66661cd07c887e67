//! Keeps bytes in memory, in the chunks they came in; joining copies nothing.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use super::{Address, Blob, Content, Medium, Numbered, Object, StoredPart, Survivors, Upload, foreign_blob};
use crate::model::object::UploadId;

#[derive(Default)]
pub(crate) struct MemoryMedium(Mutex<State>);

#[derive(Default)]
struct State {
    objects: HashMap<Address, Chunks>,
    parts: HashMap<UploadId, BTreeMap<u32, Chunks>>,
}

/// Chunks by the offset they start at.
#[derive(Default, Clone)]
struct Chunks {
    by_offset: BTreeMap<u64, Bytes>,
    bytes: u64,
}

impl Chunks {
    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            let at = self.bytes;
            self.bytes += chunk.len() as u64;
            self.by_offset.insert(at, chunk);
        }
    }
}

impl Blob for Chunks {
    fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        self.push(chunk);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Content for Chunks {
    fn read(&self, at: u64, max: usize) -> io::Result<Bytes> {
        let Some((start, chunk)) = self.by_offset.range(..=at).next_back() else { return Ok(Bytes::new()) };
        let skip = usize::try_from(at - start).unwrap_or(usize::MAX).min(chunk.len());
        Ok(chunk.slice(skip..chunk.len().min(skip.saturating_add(max))))
    }
}

impl MemoryMedium {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn chunks(blob: Box<dyn Blob>) -> io::Result<Chunks> {
    blob.into_any().downcast().map(|chunks| *chunks).map_err(|_| foreign_blob())
}

impl Medium for MemoryMedium {
    fn waits(&self) -> bool {
        false
    }

    fn wants_md5(&self) -> bool {
        true
    }

    fn load(&self) -> io::Result<Survivors> {
        Ok(Survivors::default())
    }

    fn blob(&self) -> io::Result<Box<dyn Blob>> {
        Ok(Box::new(Chunks::default()))
    }

    fn put_object(&self, at: &Address, blob: Box<dyn Blob>, object: &Object) -> io::Result<SystemTime> {
        self.state().objects.insert(at.clone(), chunks(blob)?);
        Ok(object.modified)
    }

    fn extend(&self, at: &Address, blob: Box<dyn Blob>) -> io::Result<Box<dyn Blob>> {
        let mut whole = self.state().objects.get(at).cloned().unwrap_or_default();
        chunks(blob)?.by_offset.into_values().for_each(|chunk| whole.push(chunk));
        Ok(Box::new(whole))
    }

    fn open_object(&self, at: &Address) -> io::Result<Option<Box<dyn Content>>> {
        Ok(self.state().objects.get(at).map(|chunks| Box::new(chunks.clone()) as Box<dyn Content>))
    }

    fn delete_object(&self, at: &Address) -> io::Result<()> {
        self.state().objects.remove(at);
        Ok(())
    }

    fn begin_upload(&self, id: &UploadId, _: &Upload) -> io::Result<()> {
        self.state().parts.insert(id.clone(), BTreeMap::new());
        Ok(())
    }

    fn put_part(
        &self,
        id: &UploadId,
        blob: Box<dyn Blob>,
        part: Numbered<'_>,
        _: Option<Numbered<'_>>,
    ) -> io::Result<()> {
        self.state().parts.entry(id.clone()).or_default().insert(part.0, chunks(blob)?);
        Ok(())
    }

    fn delete_part(&self, id: &UploadId, part: Numbered<'_>) -> io::Result<()> {
        self.state().parts.entry(id.clone()).or_default().remove(&part.0);
        Ok(())
    }

    fn join(&self, id: &UploadId, parts: &[(u32, StoredPart)]) -> io::Result<Box<dyn Blob>> {
        let state = self.state();
        let kept = state.parts.get(id).ok_or(io::ErrorKind::NotFound)?;
        let mut joined = Chunks::default();
        for (number, _) in parts {
            let part = kept.get(number).ok_or(io::ErrorKind::NotFound)?;
            part.by_offset.values().cloned().for_each(|chunk| joined.push(chunk));
        }
        Ok(Box::new(joined))
    }

    fn end_upload(&self, id: &UploadId) -> io::Result<()> {
        self.state().parts.remove(id);
        Ok(())
    }
}
