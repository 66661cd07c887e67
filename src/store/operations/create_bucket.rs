//! Makes a bucket (specification, section 4.17).

use bytes::Bytes;
use http::{Method, Response};

use crate::model::object::Bucket;
use crate::model::retry::Fault;
use crate::store::{Call, Dialect, Operation};

pub struct CreateBucket<'a> {
    pub bucket: &'a Bucket,
}

impl Operation for CreateBucket<'_> {
    const NAME: &'static str = "PutBucket";
    type Reply = ();

    fn call<'a>(&'a self, _: &dyn Dialect) -> Call<'a> {
        Call::new(Method::PUT, self.bucket, None)
    }

    fn read(&self, _: &dyn Dialect, _: &Response<Bytes>) -> Result<(), Fault> {
        Ok(())
    }
}
