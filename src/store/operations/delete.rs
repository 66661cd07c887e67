//! Deletes an object, or one version of it (specification, section 4.4).

use bytes::Bytes;
use http::{Method, Response};

use crate::model::object::{Bucket, Key};
use crate::model::retry::Fault;
use crate::store::{Call, Dialect, Operation};

pub struct Delete<'a> {
    pub bucket: &'a Bucket,
    pub key: &'a Key,
    /// In a bucket that keeps versions: this one is gone for good. Without it, such a bucket keeps what it has and marks the
    /// key as deleted.
    pub version_id: Option<&'a str>,
}

impl Operation for Delete<'_> {
    const NAME: &'static str = "DeleteObject";
    /// An object that was not there is deleted too: the store does not tell.
    type Reply = ();

    fn call<'a>(&'a self, _: &dyn Dialect) -> Call<'a> {
        let call = Call::new(Method::DELETE, self.bucket, Some(self.key));
        match self.version_id {
            Some(version) => call.query("versionId", version),
            None => call,
        }
    }

    fn read(&self, _: &dyn Dialect, _: &Response<Bytes>) -> Result<(), Fault> {
        Ok(())
    }
}
