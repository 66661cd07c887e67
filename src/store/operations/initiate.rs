//! Opens a multipart upload (specification, section 4.9).

use bytes::Bytes;
use http::{Method, Response};
use serde::Deserialize;

use super::upload_id;
use crate::model::object::{Bucket, Key, UploadId};
use crate::model::retry::Fault;
use crate::model::settings::ObjectOptions;
use crate::store::{Call, Dialect, Operation, Stage, xml};

pub struct Initiate<'a> {
    pub bucket: &'a Bucket,
    pub key: &'a Key,
    pub options: &'a ObjectOptions,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    upload_id: String,
}

impl Operation for Initiate<'_> {
    const NAME: &'static str = "InitiateMultipartUpload";
    type Reply = UploadId;

    fn call<'a>(&'a self, dialect: &dyn Dialect) -> Call<'a> {
        let mut call = Call::new(Method::POST, self.bucket, Some(self.key)).query("uploads", "");
        call = call.query("encoding-type", "url");
        dialect.describe(self.options, self.key, Stage::Initiate, &mut call.headers);
        call
    }

    fn read(&self, _: &dyn Dialect, response: &Response<Bytes>) -> Result<UploadId, Fault> {
        let document: Document = xml::read(response.body())?;
        upload_id(document.upload_id)
    }
}
