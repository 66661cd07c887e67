//! `misc.json`, `xml_samples.json`, `errors.json` and `sign_v4_header.json` of `tests/vectors`, against what the store
//! module says and understands as a whole: no sockets, no clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use haul::model::object::{Bucket, ETag, Key, UploadId};
use haul::model::part::PartNumber;
use haul::model::retry::FaultKind;
use haul::model::settings::{Addressing, ClientSettings, ObjectOptions, Signature};
use haul::store::Store;
use haul::store::credentials::Credentials;
use haul::store::operations::complete::Complete;
use haul::store::operations::head::Head;
use haul::store::operations::initiate::Initiate;
use haul::store::operations::list_parts::ListParts;
use haul::store::operations::list_uploads::ListUploads;
use haul::store::operations::put::Put;
use http::{Request, Response};
use proptest::prelude::*;
use serde_json::Value;

const AT: SystemTime = UNIX_EPOCH;

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn misc() -> Value {
    vectors(include_str!("vectors/misc.json"))
}

fn samples() -> Vec<Value> {
    vectors(include_str!("vectors/xml_samples.json"))["vectors"].as_array().unwrap().clone()
}

fn sample(id: &str) -> Value {
    samples().into_iter().find(|sample| sample["id"] == id).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn store() -> Store {
    Store::new(&ClientSettings::new("oss-cn-hangzhou.aliyuncs.com")).unwrap()
}

fn names() -> (Bucket, Key, UploadId) {
    (Bucket::new("b-1").unwrap(), Key::new("k").unwrap(), UploadId("U1".into()))
}

fn answer(status: u16, body: &str) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

/// A signed HEAD of an object at these settings.
fn asked(settings: &ClientSettings, bucket: &str, key: &str) -> Request<Bytes> {
    let (bucket, key) = (Bucket::new(bucket).unwrap(), Key::new(key).unwrap());
    let credentials = Credentials::new("ak", "sk");
    Store::new(settings).unwrap().request(&Head { bucket: &bucket, key: &key }, Some(&credentials), AT)
}

#[test]
fn bucket_names_are_judged_as_misc_json_says() {
    let names = &misc()["bucket_names"];
    for name in names["valid"].as_array().unwrap() {
        assert!(Bucket::new(text(name)).is_ok(), "misc.json bucket_names: {name}");
    }
    for name in names["invalid"].as_array().unwrap() {
        assert!(Bucket::new(text(name)).is_err(), "misc.json bucket_names: {name}");
    }
}

#[test]
fn object_names_are_judged_as_misc_json_says() {
    let names = &misc()["object_names"];
    for name in names["client_accepts"].as_array().unwrap() {
        assert!(Key::new(text(name)).is_ok(), "misc.json object_names: {name}");
    }
    for name in names["client_rejects"].as_array().unwrap() {
        assert!(Key::new(text(name)).is_err(), "misc.json object_names: {name}");
    }
}

/// The rows were written for a client whose default is `http`; ours is `https`.
#[test]
fn objects_are_addressed_as_misc_json_says() {
    let mut seen = 0;
    for row in misc()["url_for"]["rows"].as_array().unwrap().iter().filter(|row| row["object"] != "") {
        let endpoint = text(&row["endpoint"]);
        let addressing = match (row["cname"] == true, row["path_style"] == true) {
            (true, _) => Some(Addressing::Cname),
            (_, true) => Some(Addressing::Path),
            _ => None,
        };
        let settings = ClientSettings { addressing, signature: Signature::V1, ..ClientSettings::new(endpoint) };
        let (_, expected) = text(&row["url"]).split_once("://").unwrap();
        let scheme = endpoint.split_once("://").map_or("https", |(scheme, _)| scheme);
        let uri = asked(&settings, text(&row["bucket"]), text(&row["object"])).uri().to_string();
        assert_eq!(uri, format!("{scheme}://{expected}"), "misc.json url_for: {endpoint}");
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn an_endpoint_made_of_a_region_signs_for_that_region_as_misc_json_says() {
    for row in misc()["endpoint_from_region"]["rows"].as_array().unwrap() {
        let settings = ClientSettings::new(text(&row["host"]));
        if text(&row["kind"]).starts_with("accelerate") {
            assert!(Store::new(&settings).is_err(), "misc.json endpoint_from_region: {row}");
            continue;
        }
        let authorization = asked(&settings, "demo", "k").headers()["authorization"].clone();
        let scope = format!("/{}/oss/aliyun_v4_request", text(&row["region"]));
        assert!(authorization.to_str().unwrap().contains(&scope), "misc.json endpoint_from_region: {row}");
    }
}

/// A cloud box is known by its endpoint, unless the caller names another region.
#[test]
fn a_cloud_box_signs_for_itself_as_misc_json_says() {
    let rows = misc()["cloudbox_detect"]["rows"].as_array().unwrap().clone();
    let rows: Vec<_> = rows.iter().filter(|row| row.get("cloudbox_id").is_none()).collect();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let region = (row["auto"] == false).then(|| text(&row["region"]).to_owned());
        let settings = ClientSettings { region, ..ClientSettings::new(text(&row["endpoint"])) };
        let authorization = asked(&settings, "demo", "k").headers()["authorization"].clone();
        let scope = format!("/{}/{}/aliyun_v4_request", text(&row["region"]), text(&row["product"]));
        assert!(authorization.to_str().unwrap().contains(&scope), "misc.json cloudbox_detect: {row}");
    }
}

#[test]
fn an_initiated_upload_is_read_from_every_spelling_of_xml_samples_json() {
    let (bucket, key, _) = names();
    let options = ObjectOptions::default();
    let mut seen = 0;
    for sample in samples().iter().filter(|sample| text(&sample["id"]).starts_with("initiate")) {
        let operation = Initiate { bucket: &bucket, key: &key, options: &options };
        let id = store().reply(&operation, &answer(200, text(&sample["xml"]))).unwrap();
        assert_eq!(id.0, text(&sample["parsed"]["upload_id"]), "xml_samples.json {}", sample["id"]);
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn every_field_of_the_part_lists_of_xml_samples_json_is_read() {
    let (bucket, key, upload_id) = names();
    let mut seen = 0;
    for sample in samples().iter().filter(|sample| text(&sample["id"]).starts_with("list-parts")) {
        let operation = ListParts { bucket: &bucket, key: &key, upload_id: &upload_id, after: None };
        let page = store().reply(&operation, &answer(200, text(&sample["xml"]))).unwrap();
        let found: Vec<_> =
            page.parts.iter().map(|p| (p.number.get().into(), p.etag.clone(), p.bytes, p.crc64)).collect();
        let expected = sample["parsed"]["parts"].as_array().unwrap().iter().map(|part| {
            let crc64 = part[3].as_str().map(|crc| crc.parse().unwrap());
            (part[0].as_u64().unwrap(), ETag::new(text(&part[1])), part[2].as_u64().unwrap(), crc64)
        });
        assert_eq!(found, expected.collect::<Vec<_>>(), "xml_samples.json {}", sample["id"]);
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn a_completed_upload_of_xml_samples_json_is_read() {
    let (bucket, key, upload_id) = names();
    let sample = sample("complete");
    let options = ObjectOptions::default();
    let operation = Complete { bucket: &bucket, key: &key, upload_id: &upload_id, parts: &[], options: &options };
    let stored = store().reply(&operation, &answer(200, text(&sample["xml"]))).unwrap();
    assert_eq!(stored.etag.as_str(), text(&sample["parsed"]["etag"]));
}

#[test]
fn the_errors_of_xml_samples_json_are_read() {
    let (bucket, key, _) = names();
    for id in ["error", "error-unknown-elements"] {
        let sample = sample(id);
        let fault =
            store().reply(&Head { bucket: &bucket, key: &key }, &answer(403, text(&sample["xml"]))).unwrap_err();
        assert_eq!(fault.code.as_deref(), sample["parsed"]["code"].as_str(), "xml_samples.json {id}");
        assert_eq!(fault.request_id.as_deref(), sample["parsed"]["request_id"].as_str(), "xml_samples.json {id}");
        assert_eq!(fault.ec.as_deref(), sample["parsed"]["ec"].as_str(), "xml_samples.json {id}");
    }
}

#[test]
fn the_request_that_completes_an_upload_is_one_that_xml_samples_json_lists() {
    let (bucket, key, upload_id) = names();
    let options = ObjectOptions::default();
    let samples = vectors(include_str!("vectors/xml_samples.json"));
    for sample in samples["request_bodies"].as_array().unwrap() {
        let written = sample["parts"].as_array().unwrap();
        let parts =
            written.iter().map(|p| (PartNumber::new(p[0].as_u64().unwrap() as u32).unwrap(), ETag::new(text(&p[1]))));
        let parts: Vec<_> = parts.collect();
        let operation =
            Complete { bucket: &bucket, key: &key, upload_id: &upload_id, parts: &parts, options: &options };
        let body = store().request(&operation, None, AT).into_body();
        let spellings = samples["request_bodies"].as_array().unwrap();
        assert!(spellings.iter().any(|spelling| text(&spelling["xml"]).as_bytes() == body), "{}", sample["id"]);
    }
}

#[test]
fn content_md5_of_a_body_is_that_of_misc_json() {
    use base64::Engine as _;
    use md5::Digest as _;
    for row in misc()["md5"].as_array().unwrap() {
        let digest = md5::Md5::digest(text(&row["text"]).as_bytes());
        let encoded = base64::engine::general_purpose::STANDARD.encode(digest);
        assert_eq!(encoded, text(&row["content_md5"]), "misc.json md5");
    }
    let (bucket, key, upload_id) = names();
    let options = ObjectOptions::default();
    let operation = Complete { bucket: &bucket, key: &key, upload_id: &upload_id, parts: &[], options: &options };
    let request = store().request(&operation, None, AT);
    let digest = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(request.body()));
    assert_eq!(request.headers()["content-md5"], digest.as_str());
}

/// The kind that the engine acts on, from the statuses and codes of the specification, section 5.2.
fn expected_kind(status: u16, code: &str) -> FaultKind {
    match (status, code) {
        (_, "RequestTimeout" | "BadRequest" | "InternalError" | "ServiceUnavailable") => FaultKind::Server,
        (_, "InvalidDigest") => FaultKind::Corrupted,
        (_, "RequestTimeTooSkewed") => FaultKind::ClockSkew,
        (_, "InvalidObjectState" | "SecondLevelDomainForbidden") => FaultKind::Refused,
        (_, "NoSuchUpload") => FaultKind::NoSuchUpload,
        (_, "InvalidSecurityToken" | "SecurityTokenExpired" | "AccessKeyIdAndSecurityTokenNotMatch") => {
            FaultKind::TokenExpired
        }
        (403, _) => FaultKind::Credentials,
        (404, _) => FaultKind::NotFound,
        (409 | 412, _) => FaultKind::Conflict,
        (429 | 503, _) => FaultKind::Throttled,
        _ => FaultKind::Refused,
    }
}

#[test]
fn every_code_of_errors_json_has_the_kind_that_the_engine_needs() {
    let (bucket, key, _) = names();
    let file = vectors(include_str!("vectors/errors.json"));
    let rows = file["errors"].as_array().unwrap();
    assert_eq!(rows.len() as u64, file["count"].as_u64().unwrap());
    for row in rows.iter().filter(|row| row["http_status"] != 203) {
        let (status, code) = (row["http_status"].as_u64().unwrap() as u16, text(&row["code"]));
        let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        let fault = store().reply(&Head { bucket: &bucket, key: &key }, &answer(status, &body)).unwrap_err();
        assert_eq!((fault.kind, fault.status), (expected_kind(status, code), Some(status)), "errors.json {code}");
    }
}

#[test]
fn a_failed_callback_of_errors_json_is_no_fault_of_either_operation() {
    let (bucket, key, upload_id) = names();
    let options = ObjectOptions { callback: Some("{}".into()), ..ObjectOptions::default() };
    let body = "<Error><Code>CallbackFailed</Code><Message>m</Message></Error>";
    let put = Put { bucket: &bucket, key: &key, bytes: 1, options: &options };
    assert_eq!(store().reply(&put, &answer(203, body)).unwrap().status, 203);
    let complete = Complete { bucket: &bucket, key: &key, upload_id: &upload_id, parts: &[], options: &options };
    assert_eq!(store().reply(&complete, &answer(203, body)).unwrap().status, 203);
}

#[test]
fn the_extension_ts_is_the_video_type_that_the_acceptance_list_names() {
    let (bucket, _, _) = names();
    let (key, options) = (Key::new("dir/movie.ts").unwrap(), ObjectOptions::default());
    let request = store().request(&Initiate { bucket: &bucket, key: &key, options: &options }, None, AT);
    assert_eq!(request.headers()["content-type"], "video/MP2T");
}

#[test]
fn keys_of_a_list_of_uploads_are_decoded_as_misc_json_says() {
    let (bucket, _, _) = names();
    let read = |key: &str| {
        let body = format!(
            "<R><EncodingType>url</EncodingType><Upload><Key>{key}</Key><UploadId>U</UploadId></Upload><CommonPrefixes>\
             <Prefix>p</Prefix></CommonPrefixes><Upload><Key>z</Key><UploadId>V</UploadId></Upload></R>"
        );
        store().reply(&ListUploads { bucket: &bucket, prefix: "", after: None }, &answer(200, &body))
    };
    for row in misc()["url_encode"].as_array().unwrap() {
        let (input, output) = (text(&row["input"]), text(&row["output"]));
        assert_eq!(read(output).unwrap().uploads[0].key.as_str(), input, "misc.json url_encode");
    }
    assert_eq!(read("a+b").unwrap().uploads[0].key.as_str(), "a b");
    assert_eq!(read("k").unwrap().uploads.len(), 2, "other elements may stand between");
}

/// What was signed, and secrets, stay out of messages even where the document cannot be read.
#[test]
fn no_fault_repeats_what_was_signed() {
    let (bucket, key, upload_id) = names();
    let options = ObjectOptions::default();
    let complete = Complete { bucket: &bucket, key: &key, upload_id: &upload_id, parts: &[], options: &options };
    let bodies = [
        "<Error><Code>SignatureDoesNotMatch</Code><StringToSign>canary</StringToSign></Error>",
        "<Error><StringToSign>x-oss-security-token:canary</StringToSign><Code>SignatureDoesNot",
        "<?xml version=\"1.0\"?><Error><Code>X</Code><Code>Y</Code><SignatureProvided>canary</SignatureProvided></Error>",
    ];
    for body in bodies {
        for status in [403, 500] {
            let fault = store().reply(&Head { bucket: &bucket, key: &key }, &answer(status, body)).unwrap_err();
            assert!(!format!("{fault} {fault:?}").contains("canary"), "{fault:?}");
        }
        let Err(fault) = store().reply(&complete, &answer(200, body)) else { panic!("{body} is no success") };
        assert!(!format!("{fault} {fault:?}").contains("canary"), "{fault:?}");
    }
}

#[test]
fn no_text_of_the_store_reaches_a_terminal_as_control_characters() {
    let (bucket, key, upload_id) = names();
    let options = ObjectOptions::default();
    let long = "c".repeat(100_000);
    let body = format!(
        "<Error><Code>E&#27;[2J{long}</Code><Message>m&#27;[2J{long}</Message><RequestId>R&#27;{long}</RequestId>\
         <EC>0&#27;{long}</EC></Error>"
    );
    let complete = Complete { bucket: &bucket, key: &key, upload_id: &upload_id, parts: &[], options: &options };
    let refused = store().reply(&Head { bucket: &bucket, key: &key }, &answer(400, &body)).unwrap_err();
    let hidden = store().reply(&complete, &answer(200, &body)).unwrap_err();
    for fault in [refused, hidden] {
        let shown = format!("{fault} {}", fault.ec.as_deref().unwrap_or_default());
        assert!(!shown.contains('\u{1b}') && shown.len() < 2_000, "{} bytes: {shown:.100}", shown.len());
    }
}

#[test]
fn a_redirect_is_a_fault_that_names_the_other_endpoint() {
    let (bucket, key, _) = names();
    let mut response = answer(301, "");
    let other = "https://b-1.oss-us-west-1.aliyuncs.com/k?x=1";
    response.headers_mut().insert("location", other.parse().unwrap());
    let fault = store().reply(&Head { bucket: &bucket, key: &key }, &response).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.message.contains("oss-us-west-1.aliyuncs.com") && !fault.message.contains("x=1"), "{fault}");
}

#[test]
fn a_signed_request_does_not_show_its_secrets() {
    let credentials = Credentials {
        session_token: Some(zeroize::Zeroizing::new("canary-token".into())),
        ..Credentials::new("ak", "canary-secret")
    };
    let (bucket, key, _) = names();
    for signature in [Signature::V1, Signature::V4] {
        let settings = ClientSettings { signature, ..ClientSettings::new("oss-cn-hangzhou.aliyuncs.com") };
        let request =
            Store::new(&settings).unwrap().request(&Head { bucket: &bucket, key: &key }, Some(&credentials), AT);
        assert_eq!(request.headers()["x-oss-security-token"], "canary-token");
        assert!(!format!("{request:?}").contains("canary"), "{request:?}");
        assert!(request.headers()["authorization"].is_sensitive());
    }
}

#[test]
fn one_endpoint_has_one_name_however_it_is_written() {
    let endpoint = |text: &str| {
        let settings = ClientSettings { region: Some("r".into()), ..ClientSettings::new(text) };
        Store::new(&settings).map(|store| store.endpoint().to_owned())
    };
    for same in ["e.com", "https://e.com", "HTTPS://E.com/", "e.com:443", "https://e.com:/x?y#z", "u:p@e.com"] {
        assert_eq!(endpoint(same).unwrap(), "https://e.com", "{same}");
    }
    assert_eq!(endpoint("http://e.com:80").unwrap(), "http://e.com");
    assert_eq!(endpoint("http://e.com:443").unwrap(), "http://e.com:443");
    assert_eq!(endpoint("http://[::1]:9000").unwrap(), "http://[::1]:9000");
    for bad in ["e.com:+80", "e.com:x", "[::1]x", "[::1]:x", "[::1", "ftp://e.com", "e.com:65536", " "] {
        assert!(endpoint(bad).is_err(), "{bad:?}");
    }
    assert!(!endpoint("u:canary@e.com:x").unwrap_err().to_string().contains("canary"));
    assert_eq!(Store::new(&ClientSettings::new("OSS-CN-Hangzhou.aliyuncs.com")).map(|_| ()), Ok(()));
}

/// An IP has no labels in front: buckets stand in the path there, whatever was asked for.
#[test]
fn an_ip_address_is_spoken_to_by_path() {
    for (endpoint, expected) in
        [("http://[::1]:9000", "http://[::1]:9000/b-1/k"), ("http://127.0.0.1", "http://127.0.0.1/b-1/k")]
    {
        let settings = ClientSettings {
            addressing: Some(Addressing::Virtual),
            region: Some("r".into()),
            ..ClientSettings::new(endpoint)
        };
        assert_eq!(asked(&settings, "b-1", "k").uri().to_string(), expected);
    }
}

#[test]
fn a_clock_that_is_far_off_makes_no_panic() {
    let far = [UNIX_EPOCH - Duration::from_secs(1 << 33), UNIX_EPOCH + Duration::from_secs(1 << 40)];
    let (bucket, key, _) = names();
    for (signature, at) in [Signature::V1, Signature::V4].into_iter().flat_map(|s| far.map(|at| (s, at))) {
        let settings = ClientSettings { signature, ..ClientSettings::new("oss-cn-hangzhou.aliyuncs.com") };
        let credentials = Credentials::new("ak", "sk");
        let store = Store::new(&settings).unwrap();
        let request = store.request(&Head { bucket: &bucket, key: &key }, Some(&credentials), at);
        assert!(request.headers().contains_key("authorization"));
    }
}

/// HTTP takes blanks at the ends of a value away, so the signature must not cover them.
#[test]
fn blanks_around_a_content_type_are_not_signed() {
    let (bucket, key, _) = names();
    let authorization = |content_type: &str, signature| {
        let settings = ClientSettings { signature, ..ClientSettings::new("oss-cn-hangzhou.aliyuncs.com") };
        let options = ObjectOptions { content_type: Some(content_type.into()), ..ObjectOptions::default() };
        let operation = Initiate { bucket: &bucket, key: &key, options: &options };
        let credentials = Credentials::new("ak", "sk");
        let request = Store::new(&settings).unwrap().request(&operation, Some(&credentials), AT);
        request.headers()["authorization"].clone()
    };
    for signature in [Signature::V1, Signature::V4] {
        assert_eq!(authorization(" text/plain ", signature), authorization("text/plain", signature));
        assert_ne!(authorization("text/html", signature), authorization("text/plain", signature));
    }
}

/// An address has room for some 64 KiB; what a store names goes back into it.
#[test]
fn names_that_no_address_has_room_for_are_faults_and_never_panics() {
    let (bucket, key, _) = names();
    let (options, long) = (ObjectOptions::default(), "x".repeat(70_000));
    let body = format!("<R><UploadId>{long}</UploadId></R>");
    let fault = store().reply(&Initiate { bucket: &bucket, key: &key, options: &options }, &answer(200, &body));
    assert_eq!(fault.unwrap_err().kind, FaultKind::Protocol);
    let list = ListUploads { bucket: &bucket, prefix: &long, after: None };
    assert!(store().request(&list, None, AT).uri().to_string().len() < 2_000);
    let upload = "<Upload><Key>xx</Key><UploadId>U</UploadId></Upload>";
    assert!(store().reply(&list, &answer(200, &format!("<R>{upload}</R>"))).unwrap().uploads.is_empty());
    for (marker, id) in [(long.as_str(), "U"), ("k", long.as_str())] {
        let body = format!(
            "<R><IsTruncated>true</IsTruncated><NextKeyMarker>{marker}</NextKeyMarker><NextUploadIdMarker>{id}\
             </NextUploadIdMarker></R>"
        );
        assert_eq!(store().reply(&list, &answer(200, &body)).unwrap_err().kind, FaultKind::Protocol);
    }
}

proptest! {
    #[test]
    fn no_answer_makes_an_operation_panic(status in 200u16..600, body: Vec<u8>, tags in "[<>/A-Za-z&;# \"=!\\[\\]-]{0,120}") {
        let (bucket, key, upload_id) = names();
        let options = ObjectOptions::default();
        for body in [Bytes::from(body), Bytes::from(tags)] {
            let response = Response::builder().status(status).body(body).unwrap();
            let store = store();
            let _ = store.reply(&Head { bucket: &bucket, key: &key }, &response);
            let _ = store.reply(&Initiate { bucket: &bucket, key: &key, options: &options }, &response);
            let _ = store.reply(&ListParts { bucket: &bucket, key: &key, upload_id: &upload_id, after: None }, &response);
            let _ = store.reply(&ListUploads { bucket: &bucket, prefix: "", after: None }, &response);
            let complete = Complete { bucket: &bucket, key: &key, upload_id: &upload_id, parts: &[], options: &options };
            let _ = store.reply(&complete, &response);
        }
    }

    #[test]
    fn no_endpoint_and_addressing_makes_a_request_panic(
        endpoint in "(https?://)?[a-zA-Z0-9.:\\[\\]@_/?#+-]{0,24}",
        addressing in prop_oneof![Just(Addressing::Virtual), Just(Addressing::Path), Just(Addressing::Cname)],
        key in "[^/\\\\].{0,30}",
    ) {
        let settings =
            ClientSettings { addressing: Some(addressing), region: Some("r".into()), ..ClientSettings::new(endpoint) };
        if let (Ok(store), Ok(key)) = (Store::new(&settings), Key::new(key)) {
            let bucket = Bucket::new("demo").unwrap();
            let request = store.request(&Head { bucket: &bucket, key: &key }, Some(&Credentials::new("ak", "sk")), AT);
            prop_assert!(request.uri().authority().is_some());
        }
    }
}
