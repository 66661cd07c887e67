//! Answers of a store: whatever it sends, what comes of it is bounded, can be sent back, and can be shown.

use bytes::Bytes;
use haul::model::object::{Bucket, ETag, Key, UploadId};
use haul::model::part::PartNumber;
use haul::model::retry::Fault;
use haul::model::settings::{ClientSettings, ObjectOptions};
use haul::store::operations::complete::Complete;
use haul::store::operations::head::Head;
use haul::store::operations::initiate::Initiate;
use haul::store::operations::list_parts::ListParts;
use haul::store::operations::list_uploads::ListUploads;
use haul::store::operations::upload_part::UploadPart;
use haul::store::{Operation, Store};
use http::{HeaderName, HeaderValue, Response};

use super::is_shown_safely;

pub fn run(input: &[u8]) {
    let Some(answer) = answer(input) else { return };
    let asked = Asked {
        store: Store::new(&ClientSettings::new("oss-cn-hangzhou.aliyuncs.com")).expect("an endpoint"),
        bucket: Bucket::new("demo").expect("a name"),
        key: Key::new("key").expect("a name"),
        upload_id: UploadId("U".into()),
        options: ObjectOptions::default(),
    };
    asked.uploads(&answer);
    asked.parts(&answer);
    asked.others(&answer);
}

/// An answer as it stands on the wire: status, a header a line, an empty line, the body.
fn answer(input: &[u8]) -> Option<Response<Bytes>> {
    let mut rest = input;
    let mut line = || {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        Some(line)
    };
    let mut answer = Response::builder().status(line()?).body(Bytes::new()).ok()?;
    while let Some(header) = line().filter(|line| !line.is_empty()) {
        let colon = header.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&header[..colon]).ok()?;
        answer.headers_mut().append(name, HeaderValue::from_bytes(header[colon + 1..].trim_ascii()).ok()?);
    }
    *answer.body_mut() = Bytes::copy_from_slice(rest);
    Some(answer)
}

/// One of every operation whose answer says something.
struct Asked {
    store: Store,
    bucket: Bucket,
    key: Key,
    upload_id: UploadId,
    options: ObjectOptions,
}

impl Asked {
    fn reply<O: Operation>(&self, operation: &O, answer: &Response<Bytes>) -> Option<O::Reply> {
        let reply = self.store.reply(operation, answer);
        if let Err(fault) = &reply {
            check_fault(fault);
        }
        reply.ok()
    }

    fn uploads(&self, answer: &Response<Bytes>) {
        let Self { bucket, key, options, .. } = self;
        if let Some(id) = self.reply(&Initiate { bucket, key, options }, answer) {
            check_id(&id);
        }
        let Some(page) = self.reply(&ListUploads { bucket, prefix: "", after: None }, answer) else { return };
        for upload in &page.uploads {
            upload.named().into_iter().for_each(|(_, id)| check_id(id));
            assert!(is_shown_safely(&upload.initiated), "{:?}", upload.initiated);
        }
        assert!(page.next.is_none_or(|(key, id)| key.len() <= 8192 && id.len() <= 1024), "a marker that can be sent");
    }

    fn parts(&self, answer: &Response<Bytes>) {
        let Self { bucket, key, upload_id, options, .. } = self;
        let after = PartNumber::new(1);
        let Some(page) = self.reply(&ListParts { bucket, key, upload_id, after }, answer) else { return };
        let numbers: Vec<_> = after.into_iter().chain(page.parts.iter().map(|part| part.number)).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "in order, behind what was asked for");
        assert!(numbers.iter().all(|number| number.get() <= 10_000), "numbers that a part can have");
        assert!(page.next.is_none_or(|next| Some(next) > after && numbers.last() <= Some(&next)), "the list moves on");
        page.parts.iter().for_each(|part| check_tag(&part.etag));
        let number = PartNumber::new(1).expect("from 1 on");
        if let Some(part) = self.reply(&UploadPart { bucket, key, upload_id, number, bytes: 5, options }, answer) {
            check_tag(&part.etag);
            assert!(part.request_id.is_none_or(|id| is_shown_safely(&id)));
        }
    }

    fn others(&self, answer: &Response<Bytes>) {
        let Self { bucket, key, upload_id, options, .. } = self;
        if let Some(info) = self.reply(&Head { bucket, key }, answer) {
            info.etag.iter().for_each(check_tag);
            let texts = [info.content_type, info.last_modified, info.object_type, info.storage_class, info.version_id];
            let mut shown = texts.into_iter().flatten().chain(info.request_id);
            assert!(shown.all(|text| is_shown_safely(&text.replace('\t', " "))), "can be shown");
        }
        let parts = [(PartNumber::new(1).expect("from 1 on"), ETag::new("A"))];
        if let Some(stored) = self.reply(&Complete { bucket, key, upload_id, parts: &parts, options }, answer) {
            check_tag(&stored.etag);
        }
    }
}

fn check_fault(fault: &Fault) {
    assert!(is_shown_safely(&fault.to_string()), "{fault:?}");
}

fn check_id(id: &UploadId) {
    assert!((1..=1024).contains(&id.0.len()) && is_shown_safely(&id.0), "{id:?}");
}

fn check_tag(etag: &ETag) {
    assert!(etag.as_str().len() <= 1024 && is_shown_safely(etag.as_str()), "{etag:?}");
}
