//! Requests: nothing is believed without a right signature, and what our client signs is believed until it is changed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use haul::model::object::{Bucket, Key, UploadId};
use haul::model::part::PartNumber;
use haul::model::settings::{Addressing, ClientSettings, ObjectOptions, Signature};
use haul::server::AccessKey;
use haul::server::outside::{Sender, Understood, request};
use haul::store::Store;
use haul::store::credentials::Credentials;
use haul::store::operations::initiate::Initiate;
use haul::store::operations::upload_part::UploadPart;
use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Uri};

use super::pieces;

const REGION: &str = "cn-hangzhou";
const DOMAIN: &str = "oss.test";
const SECRET: &str = "the secret";

pub fn run(input: &[u8]) {
    if let Some(head) = head(input) {
        any_request(&head);
    }
    one_of_ours(input);
}

/// A request as it stands on the wire: `METHOD TARGET`, then a header a line.
fn head(input: &[u8]) -> Option<Parts> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let (method, target) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut request = http::Request::builder().method(method).uri(target).body(()).ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    Some(request.into_parts().0)
}

fn any_request(head: &Parts) {
    // The day of the signed vectors, so that a date alone refuses none of them.
    let now = UNIX_EPOCH + Duration::from_secs(1_702_743_657);
    let [first, second] = ["a secret", "another one"].map(|secret| understood(head, AccessKey::new("ak", secret), now));
    let Some(first) = first else { return };
    assert!(first.sender != Sender::Owner || second.is_some_and(|second| second.sender != Sender::Owner));
    let in_url = ["x-oss-signature-version", "x-oss-signature", "Signature"];
    let names = |name: &str| first.query.iter().any(|(n, _)| n == name);
    let is_signed = head.headers.contains_key(AUTHORIZATION) || in_url.into_iter().any(names);
    assert_eq!(first.sender == Sender::Anonymous, !is_signed);
    assert!(first.key.as_ref().is_none_or(|key| first.bucket.is_some() && !key.is_empty()));
}

fn understood(head: &Parts, key: AccessKey, now: SystemTime) -> Option<Understood> {
    request(head, DOMAIN, vec![key], REGION, now).ok()
}

/// The input is four choices, then key, upload id and a value of metadata.
fn one_of_ours(input: &[u8]) {
    let Some(([choices, time @ ..], rest)) = input.split_first_chunk::<4>() else { return };
    let pieces: Vec<_> = pieces(rest).into_iter().map(String::from_utf8_lossy).collect();
    let [key, upload_id, value, ..] = &pieces[..] else { return };
    let Ok(key) = Key::new(key.clone()) else { return };
    let at = UNIX_EPOCH + Duration::from_secs(u64::from(u32::from_be_bytes([time[0], time[1], time[2], 0])));
    let token = (choices & 8 != 0).then(|| "token".to_owned().into());
    let ours = Credentials { session_token: token.clone(), ..Credentials::new("ak", SECRET) };
    let theirs = || AccessKey { security_token: token.clone(), ..AccessKey::new("ak", SECRET) };
    let head = signed(*choices, &ours, &key, &UploadId(upload_id.clone().into_owned()), value, at);
    let Some(read) = understood(&head, theirs(), at) else { panic!("not understood: {}", head.uri) };
    assert_eq!(read.sender, Sender::Owner, "{head:?}");
    assert_eq!(read.bucket.as_ref().map(Bucket::as_str), Some("demo"));
    assert_eq!(read.key.as_deref(), Some(key.as_str()));
    if choices & 4 == 0 {
        assert_eq!(read.operation, Ok("UploadPart"));
        assert!(read.query.contains(&("uploadId".into(), upload_id.clone().into_owned())));
    } else {
        assert_eq!(read.operation, Ok("InitiateMultipartUpload"));
    }
    for changed in [other_key(&head), other_method(&head), other_query(&head), other_header(&head)] {
        let sender = understood(&changed, theirs(), at).map(|understood| understood.sender);
        assert!(!matches!(sender, Some(Sender::Owner | Sender::Anonymous)), "{changed:?}");
    }
}

/// Signed by the client, as the server would get it.
fn signed(choices: u8, with: &Credentials, key: &Key, upload_id: &UploadId, value: &str, at: SystemTime) -> Parts {
    let settings = ClientSettings {
        region: Some(REGION.into()),
        signature: if choices & 1 == 0 { Signature::V4 } else { Signature::V1 },
        addressing: Some(if choices & 2 == 0 { Addressing::Path } else { Addressing::Virtual }),
        ..ClientSettings::new(format!("http://{DOMAIN}"))
    };
    let store = Store::new(&settings).expect("an endpoint");
    let bucket = Bucket::new("demo").expect("a name");
    let mut options = ObjectOptions { metadata: vec![("m".into(), value.into())], ..ObjectOptions::default() };
    if store.check(&options).is_err() {
        options.metadata.clear();
    }
    let options = &options;
    let request = if choices & 4 == 0 {
        let number = PartNumber::new(1 + u32::from(choices >> 4)).expect("from 1 on");
        let part = UploadPart { bucket: &bucket, key, upload_id, number, bytes: 5, options };
        store.request(&part, Some(with), at)
    } else {
        store.request(&Initiate { bucket: &bucket, key, options }, Some(with), at)
    };
    let (mut head, _) = request.into_parts();
    let host = head.uri.authority().expect("absolute").as_str().parse().expect("a host");
    head.headers.insert(HOST, host);
    head
}

fn with_target(head: &Parts, change: impl FnOnce(&str, &str) -> String) -> Parts {
    let mut head = head.clone();
    let target = change(head.uri.path(), head.uri.query().unwrap_or_default());
    let host = head.uri.authority().expect("absolute");
    head.uri = format!("http://{host}{target}").parse::<Uri>().expect("still a target");
    head
}

fn other_key(head: &Parts) -> Parts {
    with_target(head, |path, query| format!("{path}x?{query}"))
}

fn other_method(head: &Parts) -> Parts {
    let mut head = head.clone();
    head.method = if head.method == Method::PUT { Method::POST } else { Method::PUT };
    head
}

fn other_query(head: &Parts) -> Parts {
    with_target(head, |path, query| format!("{path}?{query}&acl"))
}

fn other_header(head: &Parts) -> Parts {
    let mut head = head.clone();
    head.headers.insert("x-oss-object-acl", HeaderValue::from_static("public-read-write"));
    head
}
