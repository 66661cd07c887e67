//! Which operation a request asks for.
//!
//! # Source
//! Dispatch table: specification, section 4.18.

use http::Method;

use crate::server::errors::{Code, Failure};
use crate::server::request::Request;

use Level::{Bucket, Object, Service};

/// What a request addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Service,
    Bucket,
    Object,
}

/// One line of the table: what must be there, and what else may be. A query parameter that is neither is refused: to
/// ignore one would be to do something else than what was asked for.
struct Row {
    operation: Operation,
    method: Method,
    level: Level,
    /// Query parameters that select the operation.
    query: &'static [&'static str],
    /// A header that selects it.
    header: Option<&'static str>,
    /// Further query parameters that it takes, or that change nothing about it.
    also: &'static [&'static [&'static str]],
}

macro_rules! operations {
    ($($name:ident $method:ident $level:ident $query:expr, $header:expr, $also:expr;)*) => {
        /// An operation of the service, by the name that its documentation uses.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Operation { $($name,)* }

        impl Operation {
            /// Every operation that this server knows.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As the documentation spells it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }

        /// The first line that fits decides.
        const TABLE: &[Row] = &[$(Row {
            operation: Operation::$name,
            method: Method::$method,
            level: $level,
            query: &$query,
            header: $header,
            also: &$also,
        },)*];
    };
}

operations! {
    UploadPartCopy          PUT    Object  ["partNumber", "uploadId"], Some(COPIES), [SEQUENTIAL, OVERRIDES];
    UploadPart              PUT    Object  ["uploadId"], None, [&["partNumber"], SEQUENTIAL, OVERRIDES];
    PutObjectAcl            PUT    Object  ["acl"], None, [VERSION];
    PutObjectTagging        PUT    Object  ["tagging"], None, [VERSION];
    PutSymlink              PUT    Object  ["symlink"], None, [OVERRIDES];
    CopyObject              PUT    Object  [], Some(COPIES), [OVERRIDES];
    PutObject               PUT    Object  [], None, [CALLBACK, OVERRIDES];
    InitiateMultipartUpload POST   Object  ["uploads"], None, [SEQUENTIAL, ENCODING, OVERRIDES];
    CompleteMultipartUpload POST   Object  ["uploadId"], None, [CALLBACK, SEQUENTIAL, ENCODING, OVERRIDES];
    AppendObject            POST   Object  ["append"], None, [&["position"], OVERRIDES];
    RestoreObject           POST   Object  ["restore"], None, [VERSION];
    ListParts               GET    Object  ["uploadId"], None, [PART_PAGE, SEQUENTIAL];
    GetObjectAcl            GET    Object  ["acl"], None, [VERSION];
    GetObjectTagging        GET    Object  ["tagging"], None, [VERSION];
    GetSymlink              GET    Object  ["symlink"], None, [VERSION];
    GetObject               GET    Object  [], None, [OVERRIDES, VERSION];
    GetObjectMeta           HEAD   Object  ["objectMeta"], None, [VERSION];
    HeadObject              HEAD   Object  [], None, [OVERRIDES, VERSION];
    AbortMultipartUpload    DELETE Object  ["uploadId"], None, [SEQUENTIAL];
    DeleteObjectTagging     DELETE Object  ["tagging"], None, [VERSION];
    DeleteObject            DELETE Object  [], None, [VERSION];
    ListObjectVersions      GET    Bucket  ["versions"], None, [PAGE, MAX_KEYS, VERSION_PAGE];
    GetBucketVersioning     GET    Bucket  ["versioning"], None, [];
    ListMultipartUploads    GET    Bucket  ["uploads"], None, [PAGE, UPLOAD_PAGE];
    GetBucketInfo           GET    Bucket  ["bucketInfo"], None, [];
    GetBucketLocation       GET    Bucket  ["location"], None, [];
    GetBucketStat           GET    Bucket  ["stat"], None, [];
    GetBucketAcl            GET    Bucket  ["acl"], None, [];
    ListObjectsV2           GET    Bucket  ["list-type"], None, [PAGE, MAX_KEYS, AFTER];
    ListObjects             GET    Bucket  [], None, [PAGE, MAX_KEYS, &["marker"]];
    DeleteMultipleObjects   POST   Bucket  ["delete"], None, [ENCODING];
    HeadBucket              HEAD   Bucket  [], None, [];
    PutBucketAcl            PUT    Bucket  ["acl"], None, [];
    PutBucket               PUT    Bucket  [], None, [];
    DeleteBucket            DELETE Bucket  [], None, [];
    ListBuckets             GET    Service [], None, [&["prefix", "marker"], MAX_KEYS];
}

/// Query parameters that replace a header of the answer: `response-` and its name.
pub(super) const OVERRIDES: &[&str] = &[
    "response-content-type",
    "response-content-language",
    "response-expires",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
];

/// The header of a copy.
const COPIES: &str = "x-oss-copy-source";
const CALLBACK: &[&str] = &["callback", "callback-var"];
const SEQUENTIAL: &[&str] = &["sequential"];
const VERSION: &[&str] = &["versionId"];
const ENCODING: &[&str] = &["encoding-type"];
/// What every listing takes.
const PAGE: &[&str] = &["prefix", "delimiter", "encoding-type"];
const MAX_KEYS: &[&str] = &["max-keys"];
const PART_PAGE: &[&str] = &["max-parts", "part-number-marker", "encoding-type"];
const UPLOAD_PAGE: &[&str] = &["key-marker", "upload-id-marker", "max-uploads"];
const VERSION_PAGE: &[&str] = &["key-marker", "version-id-marker"];
const AFTER: &[&str] = &["start-after", "continuation-token", "fetch-owner"];

/// Query parameters that may be on any request: how it is signed, paid for and paced.
const ANYWHERE: &[&str] = &[
    "Expires",
    "OSSAccessKeyId",
    "Signature",
    "security-token",
    "x-oss-additional-headers",
    "x-oss-credential",
    "x-oss-date",
    "x-oss-expires",
    "x-oss-request-payer",
    "x-oss-security-token",
    "x-oss-signature",
    "x-oss-signature-version",
    "x-oss-traffic-limit",
];

/// Of a request as a whole.
const CONDITIONS: [&str; 4] = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];

impl Operation {
    /// Whether it only looks at one object: what may be allowed to everybody.
    pub fn reads_object(self) -> bool {
        matches!(self, Self::GetObject | Self::HeadObject | Self::GetObjectMeta | Self::GetSymlink)
    }

    /// Whether it makes or removes objects: what a bucket may be open to everybody for.
    pub fn writes_object(self) -> bool {
        matches!(
            self,
            Self::PutObject
                | Self::CopyObject
                | Self::AppendObject
                | Self::DeleteObject
                | Self::InitiateMultipartUpload
                | Self::UploadPart
                | Self::UploadPartCopy
                | Self::CompleteMultipartUpload
                | Self::AbortMultipartUpload
                | Self::ListParts
                | Self::PutSymlink
        )
    }

    /// Whether it is a step of a multipart upload.
    pub fn is_multipart(self) -> bool {
        matches!(
            self,
            Self::InitiateMultipartUpload
                | Self::UploadPart
                | Self::UploadPartCopy
                | Self::ListParts
                | Self::ListMultipartUploads
                | Self::CompleteMultipartUpload
                | Self::AbortMultipartUpload
        )
    }

    /// The service knows conditions for reading. One on a write that is ignored would overwrite what it was to protect.
    fn check_conditions(self, request: &Request) -> Result<(), Failure> {
        let given = CONDITIONS.iter().find(|name| request.headers.contains_key(**name));
        match given.filter(|_| self.writes_object() && self != Self::ListParts) {
            Some(name) => {
                let message = "A header you provided implies functionality that is not implemented.";
                Err(Failure::new(Code::NotImplemented, message).with("Header", *name))
            }
            None => Ok(()),
        }
    }

    /// Chooses by method, level, query and headers.
    ///
    /// # Errors
    /// `NotImplemented` if the request selects something that this server does not do or has a query parameter that is
    /// not known for its operation, `MethodNotAllowed` for methods that the service does not know.
    pub fn of(request: &Request) -> Result<Self, Failure> {
        let level = match (&request.bucket, &request.key) {
            (Some(_), Some(_)) => Object,
            (Some(_), None) => Bucket,
            (None, _) => Service,
        };
        let row = TABLE.iter().find(|row| row.method == request.method && row.level == level && row.fits(request));
        let Some(row) = row else { return Err(unknown(request, level)) };
        let known = |name: &str| [row.query, ANYWHERE].iter().chain(row.also).any(|names| names.contains(&name));
        match request.query.iter().find(|(name, _)| !known(name)) {
            Some((name, _)) => Err(Failure::not_implemented(&format!("the query parameter {name:?} here"))),
            None => {
                request.names_current_version()?;
                row.operation.check_conditions(request)?;
                Ok(row.operation)
            }
        }
    }
}

impl Row {
    fn fits(&self, request: &Request) -> bool {
        let has_header = self.header.is_none_or(|name| request.headers.contains_key(name));
        has_header && self.query.iter().all(|name| request.query(name).is_some())
    }
}

fn unknown(request: &Request, level: Level) -> Failure {
    let method = &request.method;
    if [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::HEAD].contains(method) {
        return Failure::not_implemented(&format!("this {method} on {level:?}").to_lowercase());
    }
    Failure::new(Code::MethodNotAllowed, "The method is not allowed here.").with("Method", method.as_str())
}
