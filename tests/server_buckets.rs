//! What buckets are, and what their objects have from them: class, versions, and what HEAD says of a bucket.

use crate::server_support::*;
use haul::server::StoreKind;

fn bucket(method: &str, name: &str, query: &str) -> Call {
    let target = format!("/{name}/{query}");
    Call::new(method, &target, &target)
}

fn of_class(class: &str) -> String {
    format!("<CreateBucketConfiguration><StorageClass>{class}</StorageClass></CreateBucketConfiguration>")
}

#[test]
fn head_tells_whether_there_is_a_bucket_and_what_it_is() {
    let server = start(StoreKind::Memory);
    bucket("PUT", "cool", "").body(of_class("IA")).send(&server).expect(200);
    let head = bucket("HEAD", "cool", "").send(&server).expect(200);
    assert_eq!((head.header("x-oss-storage-class"), head.header("x-oss-bucket-region")), ("IA", "oss-cn-hangzhou"));
    assert_eq!(Call::new("HEAD", "/demo", "/demo/").send(&server).expect(200).header("content-length"), "0");
    let missing = bucket("HEAD", "none", "").send(&server).expect(404);
    assert_eq!(missing.header("x-oss-ec"), "0015-00000101");
    bucket("HEAD", "demo", "").unsigned().send(&server).expect(403);
    let mut forged = bucket("HEAD", "demo", "");
    forged.secret = "other".to_owned();
    forged.send(&server).expect(403);
}

#[test]
fn objects_have_the_class_of_their_bucket_unless_they_bring_their_own() {
    let dir = tempfile::tempdir().unwrap();
    for store in [StoreKind::Memory, StoreKind::Dir(dir.path().join("store"))] {
        let server = start(store);
        bucket("PUT", "cool", "").body(of_class("IA")).send(&server).expect(200);
        let class =
            |key: &str| bucket("HEAD", "cool", key).send(&server).expect(200).header("x-oss-storage-class").to_owned();
        bucket("PUT", "cool", "put").body("x").send(&server).expect(200);
        bucket("PUT", "cool", "own").header("x-oss-storage-class", "Standard").body("x").send(&server).expect(200);
        bucket("POST", "cool", "append?append&position=0").body("x").send(&server).expect(200);
        call("PUT", "source").header("x-oss-storage-class", "Standard").body("x").send(&server).expect(200);
        bucket("PUT", "cool", "copy").header("x-oss-copy-source", "/demo/source").body("").send(&server).expect(200);
        let begun = bucket("POST", "cool", "joined?uploads").body("").send(&server).expect(200);
        let id = begun.element("UploadId").unwrap();
        bucket("POST", "cool", &format!("joined?uploadId={id}")).body(complete_body(&[])).send(&server).expect(200);
        for (key, wanted) in [("put", "IA"), ("own", "Standard"), ("append", "IA"), ("copy", "IA"), ("joined", "IA")] {
            assert_eq!(class(key), wanted, "{key}");
        }
        let listed = bucket("GET", "cool", "").send(&server).expect(200).text();
        assert_eq!(listed.matches("<StorageClass>IA</StorageClass>").count(), 4, "{listed}");
        bucket("PUT", "demo", "back").header("x-oss-copy-source", "/cool/put").body("").send(&server).expect(200);
        assert_eq!(call("HEAD", "back").send(&server).expect(200).header("x-oss-storage-class"), "Standard");
    }
}

#[test]
fn a_bucket_that_exists_is_not_made_again_as_another_one() {
    let server = start(StoreKind::Memory);
    bucket("PUT", "cool", "").body(of_class("IA")).send(&server).expect(200);
    bucket("PUT", "cool", "").body(of_class("IA")).send(&server).expect(200);
    let acl = bucket("PUT", "cool", "").header("x-oss-acl", "public-read").body(of_class("Archive"));
    acl.send(&server).refused(409, "BucketAlreadyExists");
    let zones = "<CreateBucketConfiguration><DataRedundancyType>ZRS</DataRedundancyType></CreateBucketConfiguration>";
    bucket("PUT", "cool", "").body(zones).send(&server).refused(409, "BucketAlreadyExists");
    bucket("PUT", "demo", "").body(of_class("Standard")).send(&server).expect(200);
    let info = bucket("GET", "cool", "?bucketInfo").send(&server).expect(200);
    assert_eq!(
        (info.element("StorageClass").unwrap(), info.element("Grant").unwrap()),
        ("IA".into(), "private".into())
    );
    bucket("PUT", "attic", "").body(of_class("Attic")).send(&server).refused(400, "InvalidArgument");
    bucket("HEAD", "attic", "").send(&server).expect(404);
}

#[test]
fn a_bucket_without_versioning_says_so_and_lists_its_objects_as_null_versions() {
    let server = start(StoreKind::Memory);
    let versioning = call("GET", "?versioning").send(&server).expect(200);
    assert!(
        versioning.text().ends_with("<VersioningConfiguration></VersioningConfiguration>"),
        "{}",
        versioning.text()
    );
    bucket("GET", "none", "?versioning").send(&server).refused(404, "NoSuchBucket");
    call("PUT", "?versioning").body("<a/>").send(&server).refused(501, "NotImplemented");
    for key in ["a", "b/1", "b/2", "c"] {
        call("PUT", key).body("12345").send(&server).expect(200);
    }
    let list = |query: &str| {
        let target = format!("/demo/?versions&{query}");
        Call::new("GET", &target, "/demo/?versions").send(&server)
    };
    let all = list("encoding-type=url").expect(200).text();
    assert_eq!(all.matches("<VersionId>null</VersionId><IsLatest>true</IsLatest>").count(), 4, "{all}");
    assert!(all.contains("<Key>b%2F1</Key>") && all.contains("<Size>5</Size>"), "{all}");
    let page = list("delimiter=/&max-keys=2").expect(200);
    assert_eq!(
        (page.element("IsTruncated").unwrap(), page.element("NextKeyMarker").unwrap()),
        ("true".into(), "b/".into())
    );
    let page = list("max-keys=1&prefix=b").expect(200);
    let marker = (page.element("NextKeyMarker").unwrap(), page.element("NextVersionIdMarker").unwrap());
    assert_eq!(marker, ("b/1".into(), "null".into()));
    let rest = list("prefix=b&key-marker=b/1&version-id-marker=null").expect(200);
    assert_eq!((rest.element("Key").unwrap(), rest.element("IsTruncated").unwrap()), ("b/2".into(), "false".into()));
    list("version-id-marker=null").refused(400, "InvalidArgument");
}

#[test]
fn the_version_null_is_the_object_and_there_is_no_other() {
    let server = start(StoreKind::Memory);
    call("PUT", "k").body("x").send(&server).expect(200);
    let named = |method: &str, query: &str| call(method, &format!("k?{query}versionId=null")).body("");
    let got = named("GET", "").send(&server).expect(200);
    assert_eq!((got.text().as_str(), got.header("x-oss-version-id")), ("x", "null"));
    for (method, query) in [("HEAD", ""), ("HEAD", "objectMeta&"), ("GET", "acl&"), ("GET", "tagging&")] {
        named(method, query).send(&server).expect(200);
    }
    call("PUT", "copy").header("x-oss-copy-source", "/demo/k?versionId=null").body("").send(&server).expect(200);
    for other in ["1", "NULL", ""] {
        call("DELETE", &format!("k?versionId{}{other}", if other.is_empty() { "" } else { "=" }))
            .send(&server)
            .refused(501, "NotImplemented");
    }
    let body = "<Delete><Object><Key>copy</Key><VersionId>null</VersionId></Object></Delete>";
    let deleted =
        call("POST", "?delete").header("content-md5", &content_md5(body)).body(body).send(&server).expect(200);
    assert_eq!(deleted.element("VersionId").as_deref(), Some("null"));
    named("DELETE", "").send(&server).expect(204);
    assert!(!call("GET", "").send(&server).expect(200).text().contains("<Contents>"));
}
