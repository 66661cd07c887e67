//! What must hold for every request that can arrive: the parsers of addresses, signatures, ranges and documents answer,
//! never panic, and believe nothing that was not signed.
//!
//! Cases are whole requests and documents that clients send, mutated: bytes changed, removed, doubled, spliced. The
//! number of cases is `HAUL_CASES`, 20,000 unless given.

use std::time::SystemTime;

use fastrand::Rng;

use super::auth::{Caller, Verifier};
use super::operations::Operation;
use super::request::Request;
use super::{AccessKey, xml};

const TARGETS: &[&str] = &[
    "/demo/dir/%E5%A4%A7%20+%26=%3F%23%25~.bin?partNumber=10&uploadId=0004B9895DBBB6EC98E36",
    "/demo/?list-type=2&prefix=a%2Fb&delimiter=%2F&continuation-token=YQ&max-keys=1000&encoding-type=url",
    "/demo/k?x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date=20231217T025437Z&x-oss-expires=599&x-oss-credential=ak%2F20231217%2Fcn-hangzhou%2Foss%2Faliyun_v4_request&x-oss-signature=a39966c61718be0d5b14e668088b3fa07601033f6518ac7b523100014269c0fe",
    "/demo/k?Expires=1699807420&OSSAccessKeyId=ak&Signature=dcLTea%2BYh9ApirQ8o8dOPqtvJXQ%3D&security-token=t",
    "/demo/../../etc/passwd?append&position=18446744073709551616",
    "/?prefix=%00&marker=%ff",
    "//%2e%2e/%2F..%5c?a=%&b=%4&=&&x=%zz",
];
const AUTHORIZATIONS: &[&str] = &[
    "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,AdditionalHeaders=abc;zabc,Signature=4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f",
    "OSS4-HMAC-SHA256 Signature=00, Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request",
    "OSS ak:/W11qP1xxzbj26CiaSey1G07lo4=",
    "AWS4-HMAC-SHA256 Credential=ak",
    "OSS :",
];
const DATES: &[&str] =
    &["20231216T162057Z", "Wed, 01 Jan 2025 00:00:00 GMT", "99991231T235959Z", "00000000T000000Z", "-1"];
const DOCUMENTS: &[&str] = &[
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?><CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;0A&quot;</ETag></Part><Part><PartNumber>10000</PartNumber><ETag>\"b\"</ETag></Part></CompleteMultipartUpload>",
    "<Delete><Quiet>true</Quiet><Object><Key>a &lt;&amp;</Key></Object><Object><Key>k</Key><VersionId>v</VersionId></Object></Delete>",
    "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>",
    "<RestoreRequest><Days>2</Days><JobParameters><Tier>Bulk</Tier></JobParameters></RestoreRequest>",
    "<CreateBucketConfiguration><StorageClass>IA</StorageClass></CreateBucketConfiguration>",
    "<!DOCTYPE x [<!ENTITY a \"&b;&b;\"><!ENTITY b \"x\">]><Delete><Object><Key>&a;&a;</Key></Object></Delete>",
    "<a><a><a><a><![CDATA[x]]><!-- --></a></a></a></a>",
];
/// What mutations put in: the characters that mean something to a parser.
const SPICE: &[&str] = &[
    "%",
    "%2",
    "%00",
    "%ff",
    "/",
    "//",
    "..",
    "?",
    "&",
    "=",
    "+",
    ";",
    ",",
    ":",
    " ",
    "<",
    ">",
    "&#x;",
    "&lt",
    "\"",
    "é",
    "\u{0}",
    "9999999999999999999999",
    "-",
];

fn pick<'a>(random: &mut Rng, choices: &[&'a str]) -> &'a str {
    choices[random.usize(..choices.len())]
}

fn mutated(random: &mut Rng, seeds: &[&str]) -> String {
    let mut text: Vec<char> = pick(random, seeds).chars().collect();
    for _ in 0..random.usize(0..6) {
        let at = random.usize(..=text.len());
        let to = random.usize(at..=text.len().min(at + 12));
        match random.u8(0..5) {
            0 => drop(text.drain(at..to)),
            1 => {
                let doubled: Vec<char> = text[at..to].to_vec();
                text.splice(at..at, doubled);
            }
            2 => drop(text.splice(at..to, pick(random, SPICE).chars())),
            3 => {
                let other: Vec<char> = pick(random, seeds).chars().collect();
                let from = random.usize(..=other.len());
                text.splice(at.., other[from..].iter().copied());
            }
            _ => drop(text.splice(at..at, random.char('\0'..='\u{2ff}').to_string().chars())),
        }
    }
    text.into_iter().collect()
}

fn request_case(random: &mut Rng, verifier: &Verifier) -> bool {
    let method = pick(random, &["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"]);
    let mut builder = http::Request::builder().method(method).uri(mutated(random, TARGETS));
    builder =
        builder.header("host", mutated(random, &["demo.localhost:80", "127.0.0.1", "[::1]:9000", "localhost", "."]));
    if random.bool() {
        builder = builder.header("authorization", mutated(random, AUTHORIZATIONS));
    }
    for name in ["x-oss-date", "date", "range", "x-oss-content-sha256", "x-oss-security-token", "content-md5"] {
        if random.bool() {
            builder = builder.header(name, mutated(random, DATES));
        }
    }
    let Ok(request) = builder.body(()) else { return false };
    let Ok(request) = Request::parse(&request.into_parts().0, "localhost") else { return true };
    let _ = Operation::of(&request);
    if let Ok(caller) = verifier.verify(&request, SystemTime::now()) {
        let in_url = ["x-oss-signature-version", "x-oss-signature", "Signature"];
        let is_signed =
            request.headers.contains_key("authorization") || in_url.iter().any(|name| request.query(name).is_some());
        assert!(caller == Caller::Anonymous && !is_signed, "believed: {method} {:?}", request.query);
    }
    assert!(request.key.as_ref().is_none_or(|key| !key.is_empty() && key.len() < 17 << 10));
    true
}

fn document_case(random: &mut Rng) {
    let text = mutated(random, DOCUMENTS);
    let mut bytes = text.into_bytes();
    if random.u8(0..10) == 0 && !bytes.is_empty() {
        let at = random.usize(..bytes.len());
        bytes[at] = random.u8(..);
    }
    let _ = xml::parse_complete(&bytes);
    let _ = xml::parse_tagging(&bytes);
    let _ = xml::parse_create_bucket(&bytes);
    let _ = xml::parse_restore(&bytes);
    if let Ok(list) = xml::parse_delete(&bytes) {
        let told: usize = list.objects.iter().map(|object| object.key.len()).sum();
        assert!(told <= bytes.len(), "{told} bytes of keys in a document of {}", bytes.len());
    }
}

#[test]
fn no_request_and_no_document_makes_a_parser_panic_or_believe() {
    let cases: u64 = std::env::var("HAUL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(20_000);
    let verifier = Verifier::new(vec![AccessKey::new("ak", "a secret that no case knows")], "cn-hangzhou".to_owned());
    let mut parsed = 0;
    for case in 0..cases {
        let mut random = Rng::with_seed(case);
        if case % 2 == 0 {
            parsed += u64::from(request_case(&mut random, &verifier));
        } else {
            document_case(&mut random);
        }
    }
    assert!(parsed > cases / 8, "only {parsed} of {cases} cases are requests at all");
}
