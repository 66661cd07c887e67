//! Makes an object in one request; the body is streamed by the caller (specification, section 4.1).

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Response};

use super::ObjectStored;
use crate::model::object::{Bucket, Key};
use crate::model::retry::Fault;
use crate::model::settings::ObjectOptions;
use crate::store::{Call, Dialect, Operation, Stage};

pub struct Put<'a> {
    pub bucket: &'a Bucket,
    pub key: &'a Key,
    /// Length of the body that the caller sends.
    pub bytes: u64,
    pub options: &'a ObjectOptions,
}

impl Operation for Put<'_> {
    const NAME: &'static str = "PutObject";
    type Reply = ObjectStored;

    fn call<'a>(&'a self, dialect: &dyn Dialect) -> Call<'a> {
        let mut call = Call::new(Method::PUT, self.bucket, Some(self.key));
        dialect.describe(self.options, self.key, Stage::Put, &mut call.headers);
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from(self.bytes));
        call
    }

    fn read(&self, dialect: &dyn Dialect, response: &Response<Bytes>) -> Result<ObjectStored, Fault> {
        ObjectStored::read(dialect, response, None, self.options.callback.is_some())
    }
}
