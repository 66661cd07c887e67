//! The vectors of the official clients, fed to the verifier.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::*;

fn vectors(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).expect("vectors are JSON");
    file["vectors"].as_array().expect("a list of vectors").clone()
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap_or("")
}

/// The request of a vector as it comes off the wire.
fn request(vector: &Value) -> Request {
    let pairs = |name: &str| vector[name].as_array().cloned().unwrap_or_default();
    let pair = |p: &Value| (p[0].as_str().unwrap_or("").to_owned(), p[1].as_str().unwrap_or("").to_owned());
    let mut headers = http::HeaderMap::new();
    for (name, value) in pairs("headers").iter().map(pair) {
        headers.append(http::HeaderName::try_from(name).expect("a header"), value.parse().expect("a value"));
    }
    if let Some(token) = vector["security_token"].as_str() {
        headers.insert("x-oss-security-token", token.parse().expect("a value"));
    }
    if let Some(time) = vector["sign_time_iso"].as_str() {
        headers.insert("x-oss-date", time.parse().expect("a value"));
        headers.insert("x-oss-content-sha256", http::HeaderValue::from_static("UNSIGNED-PAYLOAD"));
    }
    let authorization = text(&vector["expect"], "authorization");
    headers.insert("authorization", authorization.parse().expect("a value"));
    Request {
        method: text(vector, "method").parse().expect("a method"),
        headers,
        bucket: vector["bucket"].as_str().map(|name| crate::model::object::Bucket::new(name).expect("a bucket")),
        key: vector["key"].as_str().map(str::to_owned),
        query: pairs("query").iter().map(pair).collect(),
        host: text(vector, "host").to_owned(),
        path_style: false,
    }
}

fn verifier(vector: &Value, secret: &str) -> Verifier {
    let key = AccessKey {
        id: text(vector, "access_key_id").to_owned(),
        secret: secret.to_owned().into(),
        security_token: vector["security_token"].as_str().map(|token| token.to_owned().into()),
        token_expires: None,
    };
    Verifier::new(vec![key], text(vector, "region").to_owned())
}

fn signed_at(vector: &Value, request: &Request) -> SystemTime {
    match vector["sign_time_unix"].as_u64() {
        Some(seconds) => UNIX_EPOCH + Duration::from_secs(seconds),
        None => {
            let date = request.header("x-oss-date").or_else(|| request.header("date")).expect("a date");
            httpdate::parse_http_date(date).expect("an IMF date")
        }
    }
}

fn v1() -> Vec<Value> {
    vectors(include_str!("../../../tests/vectors/sign_v1_header.json"))
}

/// Cloud boxes sign for a product of their own, which this server is not.
fn v4() -> Vec<Value> {
    let mut all = vectors(include_str!("../../../tests/vectors/sign_v4_header.json"));
    all.retain(|vector| text(vector, "product") == "oss");
    all
}

#[test]
fn signatures_of_the_official_clients_are_believed() {
    let all: Vec<Value> = v1().into_iter().chain(v4()).collect();
    assert!(all.len() >= 11, "{} vectors", all.len());
    for vector in all {
        let request = request(&vector);
        let now = signed_at(&vector, &request);
        let verdict = verifier(&vector, text(&vector, "access_key_secret")).verify(&request, now);
        assert!(verdict.is_ok(), "{}: {:?}", vector["id"], verdict.err());
    }
}

#[test]
fn a_wrong_secret_is_answered_with_what_was_signed() {
    for vector in v1().into_iter().chain(v4()) {
        let request = request(&vector);
        let now = signed_at(&vector, &request);
        let failure = verifier(&vector, "wrong").verify(&request, now).expect_err("forged");
        assert_eq!(failure.code, Code::SignatureDoesNotMatch);
        let detail = |name: &str| failure.details.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        let expect = &vector["expect"];
        assert_eq!(detail("StringToSign"), expect["string_to_sign"].as_str(), "{}", vector["id"]);
        assert_eq!(detail("CanonicalRequest"), expect["canonical_request"].as_str(), "{}", vector["id"]);
        let bytes = detail("StringToSignBytes").expect("bytes").split(' ').next();
        assert_eq!(bytes.map(str::to_owned), Some(format!("{:02X}", text(expect, "string_to_sign").as_bytes()[0])));
    }
}

#[test]
fn anything_changed_after_signing_is_noticed() {
    for vector in v1().into_iter().chain(v4()) {
        let secret = text(&vector, "access_key_secret");
        let changes: [fn(&mut Request); 4] = [
            |r| r.method = http::Method::DELETE,
            |r| r.key = Some("other".to_owned()),
            |r| r.query.push(("uploadId".to_owned(), "1".to_owned())),
            |r| drop(r.headers.insert("x-oss-meta-x", http::HeaderValue::from_static("1"))),
        ];
        for change in changes {
            let mut request = request(&vector);
            let now = signed_at(&vector, &request);
            change(&mut request);
            let failure = verifier(&vector, secret).verify(&request, now).expect_err("changed");
            assert_eq!(failure.code, Code::SignatureDoesNotMatch, "{}", vector["id"]);
        }
    }
}

#[test]
fn a_clock_more_than_fifteen_minutes_off_is_refused_both_ways() {
    for vector in v1().into_iter().chain(v4()) {
        let request = request(&vector);
        let verifier = verifier(&vector, text(&vector, "access_key_secret"));
        let signed = signed_at(&vector, &request);
        let (limit, over) = (Duration::from_secs(900), Duration::from_secs(901));
        assert!(verifier.verify(&request, signed + limit).is_ok());
        assert!(verifier.verify(&request, signed - limit).is_ok());
        for now in [signed + over, signed - over] {
            assert_eq!(verifier.verify(&request, now).expect_err("skewed").code, Code::RequestTimeTooSkewed);
        }
    }
}

/// The code that a vector's request gets after `change`.
fn refused(vector: &Value, change: impl Fn(&mut Request)) -> Code {
    let mut request = request(vector);
    let now = signed_at(vector, &request);
    change(&mut request);
    verifier(vector, text(vector, "access_key_secret")).verify(&request, now).expect_err("refused").code
}

fn set(name: &'static str, value: &str) -> impl Fn(&mut Request) {
    let value = http::HeaderValue::from_str(value).expect("a value");
    move |request| drop(request.headers.insert(name, value.clone()))
}

#[test]
fn requests_without_signature_are_anonymous_and_those_without_date_denied() {
    for vector in [&v1()[0], &v4()[0]] {
        let mut anonymous = request(vector);
        anonymous.headers.remove("authorization");
        let verdict = verifier(vector, "sk").verify(&anonymous, signed_at(vector, &request(vector)));
        assert_eq!(verdict.expect("believed"), Caller::Anonymous);
        assert_eq!(refused(vector, |r| drop(r.headers.remove("x-oss-date"))), Code::AccessDenied);
        for bad in ["", "yesterday", "20231316T162057Z", "20231216T162057", "+0231216T162057Z"] {
            assert_eq!(refused(vector, set("x-oss-date", bad)), Code::AccessDenied, "{bad}");
        }
    }
}

#[test]
fn an_unknown_key_and_a_foreign_token_are_named() {
    assert_eq!(refused(&v1()[0], set("authorization", "OSS nobody:c2ln")), Code::InvalidAccessKeyId);
    assert_eq!(refused(&v1()[0], set("x-oss-security-token", "t")), Code::InvalidSecurityToken);
    let with_token = v4().into_iter().find(|vector| vector["security_token"].is_string()).expect("a token vector");
    assert_eq!(refused(&with_token, set("x-oss-security-token", "other")), Code::InvalidSecurityToken);
}

#[test]
fn malformed_authorization_is_an_invalid_argument() {
    let vector = &v4()[0];
    let credential = "Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request";
    for bad in [
        "OSS ",
        "OSS ak",
        "OSS :x",
        "OSS ak:",
        "Basic x",
        "AWS4-HMAC-SHA256 x",
        "OSS4-HMAC-SHA256 ",
        "OSS4-HMAC-SHA256 Signature=00",
        &format!("OSS4-HMAC-SHA256 {credential}"),
        &format!("OSS4-HMAC-SHA256 {credential},Signature="),
        &format!("OSS4-HMAC-SHA256 {credential},AdditionalHeaders=,Signature=00"),
        &format!("OSS4-HMAC-SHA256 {credential},AdditionalHeaders=abc;,Signature=00"),
        &format!("OSS4-HMAC-SHA256 {credential},{credential},Signature=00"),
        "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-beijing/oss/aliyun_v4_request,Signature=00",
        "OSS4-HMAC-SHA256 Credential=ak/20231217/cn-hangzhou/oss/aliyun_v4_request,Signature=00",
        "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/s3/aliyun_v4_request,Signature=00",
        "OSS4-HMAC-SHA256 Credential=20231216/cn-hangzhou/oss/aliyun_v4_request,Signature=00",
    ] {
        assert_eq!(refused(vector, set("authorization", bad)), Code::InvalidArgument, "{bad}");
    }
    assert_eq!(refused(vector, set("x-oss-content-sha256", "abc")), Code::InvalidArgument);
    for forged in ["zz", "0", "00"] {
        let header = format!("OSS4-HMAC-SHA256 {credential},Signature={forged}");
        assert_eq!(refused(vector, set("authorization", &header)), Code::SignatureDoesNotMatch, "{forged}");
    }
    let both = refused(vector, |r| r.query.push(("x-oss-signature".to_owned(), "00".to_owned())));
    assert_eq!(both, Code::InvalidArgument);
}

#[test]
fn items_of_the_header_come_in_any_order_with_spaces() {
    let vector = v4().into_iter().find(|vector| vector["id"] == "v4-header-4-additional").expect("the vector");
    let mut request = request(&vector);
    let header = text(&vector["expect"], "authorization").strip_prefix("OSS4-HMAC-SHA256 ").expect("the algorithm");
    let mut items: Vec<&str> = header.split(',').collect();
    items.reverse();
    set("authorization", &format!("OSS4-HMAC-SHA256 {}", items.join(", ")))(&mut request);
    let now = signed_at(&vector, &request);
    assert!(verifier(&vector, text(&vector, "access_key_secret")).verify(&request, now).is_ok());
}

/// The vectors of signed URLs: the request as the URL itself, with the headers that the caller repeats.
fn urls() -> Vec<Value> {
    let v1 = vectors(include_str!("../../../tests/vectors/sign_v1_query.json"));
    let mut v4 = vectors(include_str!("../../../tests/vectors/sign_v4_query.json"));
    v4.retain(|vector| text(vector, "product") == "oss");
    v1.into_iter().chain(v4).collect()
}

fn request_of_url(vector: &Value) -> Request {
    let url = text(&vector["expect"], "url");
    let mut builder = http::Request::builder().method(text(vector, "method")).uri(url);
    for pair in vector["headers"].as_array().expect("headers") {
        builder = builder.header(pair[0].as_str().expect("a name"), pair[1].as_str().expect("a value"));
    }
    let (mut head, ()) = builder.body(()).expect("a request").into_parts();
    // A bucket bound to a domain of its own, and buckets in the path, are addressed as if they were in the host.
    let bucket = text(vector, "bucket").to_owned();
    let mut request = Request::parse(
        &{
            head.headers.insert("host", format!("{bucket}.test").parse().expect("a host"));
            head
        },
        "test",
    )
    .expect("an address");
    request.key = vector["key"].as_str().map(str::to_owned);
    request
}

fn end_of(vector: &Value) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(vector["expires_unix"].as_u64().expect("an end"))
}

#[test]
fn signed_urls_of_the_official_clients_are_believed_until_they_expire() {
    let all = urls();
    assert!(all.len() >= 8, "{} vectors", all.len());
    for vector in all {
        let (request, end) = (request_of_url(&vector), end_of(&vector));
        let verifier = verifier(&vector, text(&vector, "access_key_secret"));
        let verdict = verifier.verify(&request, end);
        assert!(matches!(verdict, Ok(Caller::Owner)), "{}: {:?}", vector["id"], verdict.err());
        let late = verifier.verify(&request, end + Duration::from_secs(1)).expect_err("expired");
        assert_eq!(late.code, Code::AccessDenied, "{}", vector["id"]);
    }
}

#[test]
fn a_signed_url_that_was_changed_is_noticed() {
    for vector in urls() {
        let end = end_of(&vector);
        let changes: [fn(&mut Request); 3] = [
            |r| r.method = http::Method::DELETE,
            |r| r.key = Some("other".to_owned()),
            |r| r.query.push(("uploadId".to_owned(), "1".to_owned())),
        ];
        for change in changes {
            let mut request = request_of_url(&vector);
            change(&mut request);
            let verifier = verifier(&vector, text(&vector, "access_key_secret"));
            let failure = verifier.verify(&request, end).expect_err("changed");
            assert_eq!(failure.code, Code::SignatureDoesNotMatch, "{}", vector["id"]);
        }
    }
}

#[test]
fn a_signed_url_says_in_full_what_it_claims() {
    let v4 = urls().into_iter().find(|vector| text(vector, "id") == "v4-query-1").expect("the vector");
    let v1 = urls().into_iter().find(|vector| text(vector, "id") == "v1-query-1").expect("the vector");
    let refused = |vector: &Value, change: &dyn Fn(&mut Request)| {
        let mut request = request_of_url(vector);
        change(&mut request);
        verifier(vector, "sk").verify(&request, end_of(vector)).expect_err("refused")
    };
    let with = |name: &'static str, value: &'static str| {
        move |request: &mut Request| {
            request.query.retain(|(n, _)| n != name);
            request.query.push((name.to_owned(), value.to_owned()));
        }
    };
    let all: [(&Value, &str, &str, Code); 10] = [
        (&v4, "x-oss-expires", "0", Code::InvalidArgument),
        (&v4, "x-oss-expires", "604801", Code::InvalidArgument),
        (&v4, "x-oss-expires", "x", Code::InvalidArgument),
        (&v4, "x-oss-signature-version", "OSS3", Code::InvalidArgument),
        (&v4, "x-oss-credential", "ak", Code::InvalidArgument),
        (&v4, "x-oss-date", "", Code::InvalidArgument),
        (&v4, "x-oss-security-token", "t", Code::InvalidSecurityToken),
        (&v1, "Expires", "soon", Code::AccessDenied),
        (&v1, "OSSAccessKeyId", "nobody", Code::InvalidAccessKeyId),
        (&v1, "security-token", "t", Code::InvalidSecurityToken),
    ];
    for (vector, name, value, code) in all {
        assert_eq!(refused(vector, &with(name, value)).code, code, "{name}={value}");
    }
    let on_bucket = refused(&v1, &|request| request.key = None);
    assert_eq!((on_bucket.code, on_bucket.finer_code()), (Code::AccessDenied, "0002-00000079"));
    let early = request_of_url(&v4);
    let before = end_of(&v4) - Duration::from_secs(599 + 901);
    assert_eq!(verifier(&v4, "sk").verify(&early, before).expect_err("early").code, Code::AccessDenied);
    let twice = refused(&v4, &|request| {
        with("x-oss-security-token", "t")(request);
        set("x-oss-security-token", "t")(request);
    });
    assert_eq!((twice.code, twice.finer_code()), (Code::InvalidArgument, "0002-00000010"));
}

#[test]
fn a_temporary_key_needs_its_own_token_until_that_expires() {
    let vector = v4().into_iter().find(|vector| vector["security_token"].is_string()).expect("a token vector");
    let request = request(&vector);
    let signed = signed_at(&vector, &request);
    let key = |id: &str, token: &str, expires| AccessKey {
        security_token: Some(token.to_owned().into()),
        token_expires: expires,
        ..AccessKey::new(id, text(&vector, "access_key_secret"))
    };
    let (id, token) = (text(&vector, "access_key_id"), text(&vector, "security_token"));
    let judge = |keys: Vec<AccessKey>, request: &Request| {
        Verifier::new(keys, "cn-hangzhou".to_owned()).verify(request, signed).map_err(|failure| failure.code)
    };
    let minute = Duration::from_secs(60);
    assert_eq!(judge(vec![key(id, token, Some(signed + minute))], &request), Ok(Caller::Owner));
    assert_eq!(judge(vec![key(id, token, Some(signed))], &request), Err(Code::SecurityTokenExpired));
    let swapped = vec![key(id, "mine", None), key("other", token, None)];
    assert_eq!(judge(swapped, &request), Err(Code::AccessKeyIdAndSecurityTokenNotMatch));
    let mut bare = request;
    bare.headers.remove("x-oss-security-token");
    assert_eq!(judge(vec![key(id, token, None)], &bare), Err(Code::InvalidAccessKeyId));
}
