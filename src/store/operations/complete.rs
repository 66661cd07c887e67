//! Merges the parts of an upload into the object (specification, section 4.14).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Response};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::{ObjectStored, callback_failed};
use crate::model::object::{Bucket, ETag, Key, UploadId};
use crate::model::part::PartNumber;
use crate::model::retry::Fault;
use crate::model::settings::ObjectOptions;
use crate::store::{Call, Dialect, Operation, Stage, xml};

pub struct Complete<'a> {
    pub bucket: &'a Bucket,
    pub key: &'a Key,
    pub upload_id: &'a UploadId,
    /// In ascending order.
    pub parts: &'a [(PartNumber, ETag)],
    pub options: &'a ObjectOptions,
}

#[derive(Serialize)]
#[serde(rename = "CompleteMultipartUpload")]
struct PartList {
    #[serde(rename = "Part")]
    parts: Vec<ListedPart>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedPart {
    part_number: u32,
    #[serde(rename = "ETag")]
    etag: String,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "ETag")]
    etag: Option<String>,
}

impl Complete<'_> {
    fn body(&self) -> Bytes {
        let part =
            |(number, etag): &(PartNumber, ETag)| ListedPart { part_number: number.get(), etag: format!("\"{etag}\"") };
        let list = PartList { parts: self.parts.iter().map(part).collect() };
        quick_xml::se::to_string(&list).expect("numbers and strings can be written as XML").into()
    }
}

impl Operation for Complete<'_> {
    const NAME: &'static str = "CompleteMultipartUpload";
    type Reply = ObjectStored;

    fn call<'a>(&'a self, dialect: &dyn Dialect) -> Call<'a> {
        let mut call = Call::new(Method::POST, self.bucket, Some(self.key))
            .query("uploadId", self.upload_id.0.as_str())
            .query("encoding-type", "url");
        dialect.describe(self.options, self.key, Stage::Complete, &mut call.headers);
        call.body = self.body();
        let digest = STANDARD.encode(Md5::digest(&call.body));
        call.headers.insert("content-type", HeaderValue::from_static("application/xml"));
        call.headers.insert("content-md5", HeaderValue::from_str(&digest).expect("base64 is a header value"));
        call
    }

    fn read(&self, dialect: &dyn Dialect, response: &Response<Bytes>) -> Result<ObjectStored, Fault> {
        let callback = self.options.callback.is_some();
        if !callback_failed(response, callback)
            && let Some(fault) = dialect.fault_in_success(response.body())
        {
            return Err(fault);
        }
        let named = if callback { None } else { xml::read::<Document>(response.body()).ok().and_then(|d| d.etag) };
        // The object is there: a tag that makes no sense is none.
        let named = named.map(|text| ETag::new(&text)).filter(ETag::is_credible);
        let stored = ObjectStored::read(dialect, response, named, callback)?;
        let parts: Vec<_> = self.parts.iter().map(|(_, etag)| etag).collect();
        Ok(ObjectStored { etag_by_rule: dialect.joined_etag(&parts, response.headers()), ..stored })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::retry::FaultKind;
    use crate::model::settings::ClientSettings;
    use crate::store::Store;

    fn reply(options: &ObjectOptions, status: u16, body: &'static str) -> Result<ObjectStored, Fault> {
        let store = Store::new(&ClientSettings::new("oss-cn-hangzhou.aliyuncs.com")).unwrap();
        let (bucket, key) = (Bucket::new("demo").unwrap(), Key::new("k").unwrap());
        let parts = [(PartNumber::new(1).unwrap(), ETag::new("A&B"))];
        let operation =
            Complete { bucket: &bucket, key: &key, upload_id: &UploadId("u".into()), parts: &parts, options };
        assert_eq!(
            operation.body(),
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"A&amp;B\"</ETag></Part></CompleteMultipartUpload>"
        );
        store.reply(&operation, &Response::builder().status(status).body(Bytes::from_static(body.as_bytes())).unwrap())
    }

    #[test]
    fn a_success_with_an_error_in_its_body_is_a_fault() {
        let body = "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code><Message>m</Message></Error>";
        let fault = reply(&ObjectOptions::default(), 200, body).unwrap_err();
        assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Server, Some("InternalError")));
    }

    #[test]
    fn a_failed_callback_leaves_the_object_and_says_so() {
        let options = ObjectOptions { callback: Some("{}".into()), ..ObjectOptions::default() };
        let body = "<Error><Code>CallbackFailed</Code></Error>";
        let stored = reply(&options, 203, body).unwrap();
        assert_eq!((stored.status, stored.callback_body.as_deref()), (203, Some(body.as_bytes())));
    }

    #[test]
    fn the_tag_is_taken_from_the_body_where_the_header_has_none() {
        let body = "<CompleteMultipartUploadResult><ETag>&quot;X-3&quot;</ETag></CompleteMultipartUploadResult>";
        let stored = reply(&ObjectOptions::default(), 200, body).unwrap();
        assert_eq!((stored.etag, stored.etag_by_rule), (ETag::new("X-3"), None), "the part's tag is no MD5");
        assert_eq!(reply(&ObjectOptions::default(), 200, "").unwrap_err().kind, FaultKind::Protocol);
    }
}
