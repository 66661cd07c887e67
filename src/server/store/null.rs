//! Keeps nothing but what the catalog knows: for measuring clients.

use std::any::Any;
use std::io;
use std::time::SystemTime;

use bytes::Bytes;

use super::{Address, Blob, Content, Medium, Numbered, Object, StoredPart, Survivors, Upload};
use crate::model::object::UploadId;

pub(crate) struct NullMedium;

struct NullBlob;

impl Blob for NullBlob {
    fn write(&mut self, _: Bytes) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Content for NullBlob {
    fn read(&self, _: u64, _: usize) -> io::Result<Bytes> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Medium for NullMedium {
    fn waits(&self) -> bool {
        false
    }

    fn wants_md5(&self) -> bool {
        false
    }

    fn load(&self) -> io::Result<Survivors> {
        Ok(Survivors::default())
    }

    fn blob(&self) -> io::Result<Box<dyn Blob>> {
        Ok(Box::new(NullBlob))
    }

    fn put_object(&self, _: &Address, _: Box<dyn Blob>, object: &Object) -> io::Result<SystemTime> {
        Ok(object.modified)
    }

    fn extend(&self, _: &Address, blob: Box<dyn Blob>) -> io::Result<Box<dyn Blob>> {
        Ok(blob)
    }

    fn open_object(&self, _: &Address) -> io::Result<Option<Box<dyn Content>>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn delete_object(&self, _: &Address) -> io::Result<()> {
        Ok(())
    }

    fn begin_upload(&self, _: &UploadId, _: &Upload) -> io::Result<()> {
        Ok(())
    }

    fn put_part(&self, _: &UploadId, _: Box<dyn Blob>, _: Numbered<'_>, _: Option<Numbered<'_>>) -> io::Result<()> {
        Ok(())
    }

    fn delete_part(&self, _: &UploadId, _: Numbered<'_>) -> io::Result<()> {
        Ok(())
    }

    fn join(&self, _: &UploadId, _: &[(u32, StoredPart)]) -> io::Result<Box<dyn Blob>> {
        self.blob()
    }

    fn end_upload(&self, _: &UploadId) -> io::Result<()> {
        Ok(())
    }
}
