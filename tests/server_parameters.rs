//! Query parameters: one that is not known for its operation is refused, and nothing is done. To ignore it would be to
//! do what was not asked for: to replace an object by the document of its retention, to delete a bucket for a setting.

use crate::server_support::*;
use haul::server::{Config, StoreKind};

/// What the documentation of the service has as sub-resources, known here or not, and a few names of its future.
#[rustfmt::skip]
const SUBRESOURCES: &[&str] = &[
    "accessPoint", "accessPointPolicy", "accessmonitor", "acl", "append", "archiveDirectRead", "asyncFetch",
    "bucketArchiveDirectRead", "bucketInfo", "bucketResourceGroup", "callback", "callback-var", "cleanRestoredObject",
    "cloudboxes", "cname", "comp", "continuation-token", "cors", "dataProcessConfiguration", "delete", "encryption",
    "httpsConfig", "img", "inventory", "inventoryId", "legalHold", "lifecycle", "live", "location", "logging",
    "metaQuery", "objectMeta", "objectWormConfiguration", "overwriteConfig", "policy", "policyStatus",
    "publicAccessBlock", "qos", "qosInfo", "redundancyTransition", "referer", "regionList", "regions", "replication",
    "replicationLocation", "replicationProgress", "requestPayment", "requesterQosInfo", "resourceGroup", "resourcePool",
    "responseHeader", "restore", "retention", "rtc", "seal", "select", "sequential", "stat", "status", "style",
    "styleName", "symlink", "tagging", "transferAcceleration", "udf", "udfApplication", "uploads",
    "userDefinedLogFieldsConfig", "versioning", "versions", "vod", "website", "withHashContext", "worm", "wormExtend",
    "wormId", "x-oss-ac-source-ip", "x-oss-async-process", "x-oss-process", "x-oss-rename", "x-oss-write-get-object",
    "ACL", "", "unheard-of",
];

/// An operation as its plainest request, and which of the names above it takes or turns into another operation.
struct Plain {
    line: &'static str,
    copies: bool,
    known: &'static [&'static str],
}

const fn plain(line: &'static str, known: &'static [&'static str]) -> Plain {
    Plain { line, copies: false, known }
}

const fn copying(line: &'static str, known: &'static [&'static str]) -> Plain {
    Plain { line, copies: true, known }
}

/// Every operation; `U` stands for the id of an open upload.
#[rustfmt::skip]
const OPERATIONS: &[Plain] = &[
    plain("PUT victim", &["acl", "tagging", "symlink", "callback", "callback-var"]),
    copying("PUT victim", &["acl", "tagging", "symlink"]),
    plain("PUT victim?partNumber=1&uploadId=U", &["sequential"]),
    copying("PUT victim?partNumber=1&uploadId=U", &["sequential"]),
    plain("PUT victim?acl", &["acl"]),
    plain("PUT victim?tagging", &["tagging"]),
    plain("PUT victim?symlink", &["symlink"]),
    plain("POST victim?uploads", &["uploads", "sequential"]),
    plain("POST victim?uploadId=U", &["callback", "callback-var", "sequential"]),
    plain("POST victim?append&position=0", &["append"]),
    plain("POST victim?restore", &["restore"]),
    plain("GET victim?uploadId=U", &["sequential"]),
    plain("GET victim?acl", &["acl"]),
    plain("GET victim?tagging", &["tagging"]),
    plain("GET victim?symlink", &["symlink"]),
    plain("GET victim", &["acl", "tagging", "symlink"]),
    plain("HEAD victim?objectMeta", &["objectMeta"]),
    plain("HEAD victim", &["objectMeta"]),
    plain("DELETE victim?uploadId=U", &["sequential"]),
    plain("DELETE victim?tagging", &["tagging"]),
    plain("DELETE victim", &["tagging"]),
    plain("GET ?uploads", &["uploads"]),
    plain("GET ?bucketInfo", &["bucketInfo"]),
    plain("GET ?location", &["location"]),
    plain("GET ?stat", &["stat"]),
    plain("GET ?acl", &["acl"]),
    plain("GET ?list-type=2", &["continuation-token"]),
    plain("GET ?versions", &["versions"]),
    plain("GET ?versioning", &["versioning"]),
    plain("GET ", &["uploads", "bucketInfo", "location", "stat", "acl", "versions", "versioning"]),
    plain("HEAD ", &[]),
    plain("POST ?delete", &["delete"]),
    plain("PUT ?acl", &["acl"]),
    plain("PUT ", &["acl"]),
    plain("DELETE ", &[]),
    plain("GET /", &[]),
];

fn request(operation: &Plain, upload: &str, name: &str) -> Call {
    let (method, target) = operation.line.split_once(' ').unwrap();
    let target = if target == "/" { "/".to_owned() } else { format!("/demo/{}", target.replace('U', upload)) };
    let joint = if target.contains('?') { '&' } else { '?' };
    let call = Call::new(method, &format!("{target}{joint}{name}=1"), "").unsigned().body("<a/>");
    if operation.copies { call.header("x-oss-copy-source", "/demo/other") } else { call }
}

#[test]
fn no_operation_takes_a_sub_resource_that_it_does_not_know() {
    let server = try_start(Config { anonymous: true, ..config(StoreKind::Memory) }).unwrap();
    let put = |key: &str, body: &str| call("PUT", key).unsigned().body(body).send(&server).expect(200);
    put("other", "another");
    let before = put("victim", "kept");
    let upload = initiate(&server, "victim");
    upload_part(&server, "victim", &upload, 1, b"part");
    let state = || {
        let read = |target: &str| call("GET", target).unsigned().send(&server).expect(200).text();
        ["victim", "victim?acl", "victim?tagging", &format!("victim?uploadId={upload}"), "?uploads", "?acl", ""]
            .map(read)
    };
    let was = state();
    for operation in OPERATIONS {
        for name in SUBRESOURCES.iter().filter(|name| !operation.known.contains(name)) {
            let reply = request(operation, &upload, name).send(&server);
            assert_eq!(reply.status, 501, "{} with {name:?}: {}", operation.line, reply.text());
        }
    }
    let victim = call("HEAD", "victim").unsigned().send(&server).expect(200);
    assert_eq!(victim.header("etag"), before.header("etag"));
    assert_eq!(state(), was);
}

#[test]
fn an_empty_bucket_is_not_deleted_with_one_of_its_settings() {
    let server = start(StoreKind::Memory);
    for setting in ["overwriteConfig", "publicAccessBlock", "lifecycle", "of-tomorrow"] {
        call("DELETE", &format!("?{setting}")).send(&server).refused(501, "NotImplemented");
    }
    assert_eq!(call("GET", "").send(&server).expect(200).element("Name").as_deref(), Some("demo"));
}

#[test]
fn parameters_that_change_nothing_are_taken() {
    let server = start(StoreKind::Memory);
    let put = call("PUT", "k?response-content-type=text/html").body("x").send(&server).expect(200);
    assert_eq!(put.header("content-type"), "");
    let limited = call_unsigned_query("GET", "k", "OSSAccessKeyId=a&Expires=1");
    assert_eq!(limited.send(&server).expect(200).body, b"x");
    let id = call_unsigned_query("POST", "m", "uploads&encoding-type=url");
    assert_eq!(id.send(&server).status, 403, "uploads is signed");
}

/// Nobody learns without a good signature what this server does not do.
#[test]
fn a_signature_is_judged_before_a_parameter() {
    let server = start(StoreKind::Memory);
    call("PUT", "k").body("x").send(&server).expect(200);
    for target in ["k?retention", "?cors", "k?worm"] {
        let mut forged = call("GET", target);
        forged.secret = "other".to_owned();
        forged.send(&server).refused(403, "SignatureDoesNotMatch");
        call("GET", target).unsigned().send(&server).refused(403, "AccessDenied");
        call("GET", target).send(&server).refused(501, "NotImplemented");
    }
    let mut forged = call("PATCH", "k").body("");
    forged.secret = "other".to_owned();
    forged.send(&server).refused(403, "SignatureDoesNotMatch");
    // Some clients sign a name that is younger than the list of those that are signed, some do not.
    call_unsigned_query("PUT", "k", "legalHold").body("<a/>").send(&server).refused(501, "NotImplemented");
    assert_eq!(call("GET", "k").send(&server).expect(200).body, b"x");
}
