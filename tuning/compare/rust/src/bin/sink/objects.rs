//! What is remembered of uploads and objects, lengths and checksums only, and the answers to the calls of OSS and S3.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crc_fast::CrcAlgorithm::Crc64Xz;

use crate::http::Body;

/// Not the MD5 of anything: clients that compare ETags with an MD5 must be told not to.
const ETAG: &str = "\"00000000000000000000000000000000-1\"";

pub struct Request<'a> {
    method: &'a str,
    /// Without the first slash; `%2F` decoded, as the OSS SDK for C sends it.
    path: String,
    query: HashMap<&'a str, &'a str>,
}

impl<'a> Request<'a> {
    pub fn new(method: &'a str, target: &'a str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self { method, path: path.trim_start_matches('/').replace("%2F", "/"), query: pairs.collect() }
    }

    fn has(&self, name: &str) -> bool {
        self.query.contains_key(name)
    }

    fn is_object(&self) -> bool {
        self.path.split_once('/').is_some_and(|(_, key)| !key.is_empty())
    }
}

pub struct Answer {
    pub status: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// Instead of the body's, in answer to HEAD.
    pub length: Option<u64>,
}

impl Answer {
    fn new(status: &'static str, body: String) -> Self {
        Self { status, headers: vec![("ETag", ETAG.to_owned())], body, length: None }
    }

    fn with_crc64(mut self, crc64: Option<u64>) -> Self {
        self.headers.extend(crc64.map(|crc64| ("x-oss-hash-crc64ecma", crc64.to_string())));
        self
    }
}

struct Piece {
    length: u64,
    crc64: Option<u64>,
    sums: String,
    cipher: Option<String>,
}

impl Piece {
    fn of(body: &Body) -> Self {
        Self { length: body.length, crc64: body.crc64, sums: body.sums.clone(), cipher: body.cipher.clone() }
    }
}

#[derive(Default)]
struct State {
    uploads_begun: u64,
    uploads: HashMap<String, BTreeMap<u32, Piece>>,
    objects: HashMap<String, Piece>,
}

pub struct Objects {
    pub verify: bool,
    state: Mutex<State>,
}

impl Objects {
    pub fn new(verify: bool) -> Self {
        Self { verify, state: Mutex::default() }
    }

    pub fn answer(&self, request: &Request<'_>, body: &Body) -> Answer {
        if !request.is_object() {
            return bucket(request);
        }
        let upload_id = request.query.get("uploadId").copied();
        match (request.method, upload_id) {
            ("POST", None) if request.has("uploads") => self.initiate(request),
            ("PUT", Some(id)) => self.put_part(id, request, body),
            ("POST", Some(id)) => self.complete(id, request),
            ("GET", Some(id)) => self.list_parts(id, request),
            ("PUT", None) => self.put(request, body),
            ("HEAD", None) => self.head(request),
            ("DELETE", _) => Answer::new("204 No Content", String::new()),
            ("GET", None) => error("404 Not Found", "NoSuchKey"),
            _ => error("501 Not Implemented", "NotImplemented"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn initiate(&self, request: &Request<'_>) -> Answer {
        let mut state = self.state();
        state.uploads_begun += 1;
        let id = format!("{:032X}", state.uploads_begun);
        state.uploads.insert(id.clone(), BTreeMap::new());
        document("InitiateMultipartUploadResult", request, &format!("<UploadId>{id}</UploadId>"))
    }

    fn put_part(&self, id: &str, request: &Request<'_>, body: &Body) -> Answer {
        let Some(number) = request.query.get("partNumber").and_then(|number| number.parse().ok()) else {
            return error("400 Bad Request", "InvalidArgument");
        };
        match self.state().uploads.get_mut(id) {
            Some(parts) => parts.insert(number, Piece::of(body)),
            None => return error("404 Not Found", "NoSuchUpload"),
        };
        Answer::new("200 OK", String::new()).with_crc64(body.crc64)
    }

    /// Makes an object of all parts there are; which ones the client names is not read.
    fn complete(&self, id: &str, request: &Request<'_>) -> Answer {
        let mut state = self.state();
        let Some(parts) = state.uploads.remove(id) else { return error("404 Not Found", "NoSuchUpload") };
        let nothing = || Piece { length: 0, crc64: self.verify.then_some(0), sums: String::new(), cipher: None };
        let object = parts.into_values().reduce(append).unwrap_or_else(nothing);
        let crc64 = object.crc64;
        state.objects.insert(request.path.clone(), object);
        document("CompleteMultipartUploadResult", request, &format!("<ETag>{ETAG}</ETag>")).with_crc64(crc64)
    }

    fn list_parts(&self, id: &str, request: &Request<'_>) -> Answer {
        let state = self.state();
        let Some(parts) = state.uploads.get(id) else { return error("404 Not Found", "NoSuchUpload") };
        let after = request.query.get("part-number-marker").and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
        let mut page = String::new();
        let mut last = after;
        for (number, part) in parts.range(after + 1..).take(1000) {
            let crc64 = part.crc64.map(|c| format!("<HashCrc64ecma>{c}</HashCrc64ecma>")).unwrap_or_default();
            page += &format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{ETAG}</ETag><Size>{}</Size>\
                 <LastModified>2025-01-01T00:00:00.000Z</LastModified>{crc64}</Part>",
                part.length
            );
            last = *number;
        }
        let more = parts.range(last + 1..).next().is_some();
        let rest = format!(
            "<UploadId>{id}</UploadId><PartNumberMarker>{after}</PartNumberMarker>\
             <NextPartNumberMarker>{last}</NextPartNumberMarker><MaxParts>1000</MaxParts>\
             <IsTruncated>{more}</IsTruncated>{page}"
        );
        document("ListPartsResult", request, &rest)
    }

    fn put(&self, request: &Request<'_>, body: &Body) -> Answer {
        self.state().objects.insert(request.path.clone(), Piece::of(body));
        Answer::new("200 OK", String::new()).with_crc64(body.crc64)
    }

    fn head(&self, request: &Request<'_>) -> Answer {
        match self.state().objects.get(&request.path) {
            None => error("404 Not Found", "NoSuchKey"),
            Some(object) => {
                let mut answer = Answer::new("200 OK", String::new()).with_crc64(object.crc64);
                answer.length = Some(object.length);
                answer.headers.push(("x-sink-sums", object.sums.clone()));
                answer.headers.extend(object.cipher.clone().map(|cipher| ("x-sink-cipher", cipher)));
                answer
            }
        }
    }
}

fn append(a: Piece, b: Piece) -> Piece {
    let crc64 = a.crc64.zip(b.crc64).map(|(x, y)| crc_fast::checksum_combine(Crc64Xz, x, y, b.length));
    Piece { length: a.length + b.length, crc64, ..b }
}

/// There is every bucket, and every one of them is empty.
fn bucket(request: &Request<'_>) -> Answer {
    let mut answer = match request.method {
        "GET" if request.has("location") => document("LocationConstraint", request, ""),
        "GET" => document("ListBucketResult", request, "<IsTruncated>false</IsTruncated><KeyCount>0</KeyCount>"),
        "HEAD" | "PUT" => Answer::new("200 OK", String::new()),
        _ => error("501 Not Implemented", "NotImplemented"),
    };
    answer.headers.push(("x-amz-bucket-region", "us-east-1".to_owned()));
    answer
}

fn document(name: &str, request: &Request<'_>, rest: &str) -> Answer {
    let (bucket, key) = request.path.split_once('/').unwrap_or((&request.path, ""));
    let mut answer = Answer::new(
        "200 OK",
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{name}><Location>/{bucket}/{key}</Location>\
             <Bucket>{bucket}</Bucket><Key>{key}</Key>{rest}</{name}>"
        ),
    );
    answer.headers.push(("Content-Type", "application/xml".to_owned()));
    answer
}

fn error(status: &'static str, code: &str) -> Answer {
    let mut answer = Answer::new(
        status,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        ),
    );
    answer.headers.push(("Content-Type", "application/xml".to_owned()));
    answer
}
