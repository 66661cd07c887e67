//! Refusals: error code, status, and the details the service puts beside them.
//!
//! # Source
//! Format and codes: specification, sections 5.1 and 5.2, and `tests/vectors/errors.json`.

use std::io;

use http::StatusCode;

use super::xml::Document;

/// One refusal, as the client will read it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub code: Code,
    /// The finer code, where the cause has one of its own.
    ec: Option<&'static str>,
    pub message: String,
    /// Headers that the answer carries beside the document.
    pub headers: Vec<(&'static str, String)>,
    /// Further elements of the error document, in order.
    pub details: Vec<(&'static str, String)>,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, ec: None, message: message.into(), headers: Vec::new(), details: Vec::new() }
    }

    /// An argument the server does not take.
    pub fn argument(name: &str, value: &str, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message).with("ArgumentName", name).with("ArgumentValue", value)
    }

    /// Something of the protocol that this server does not do.
    pub fn not_implemented(what: &str) -> Self {
        Self::new(Code::NotImplemented, format!("This server does not implement {what}."))
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    /// Names the cause more finely than its code does.
    pub fn ec(mut self, ec: &'static str) -> Self {
        self.ec = Some(ec);
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// What `x-oss-ec` says.
    pub fn finer_code(&self) -> &'static str {
        self.ec.unwrap_or(self.code.ec())
    }

    /// The error document.
    pub fn document(&self, request_id: &str, host: &str) -> String {
        document(self.code.name(), &self.message, request_id, host, &self.details, self.finer_code())
    }
}

/// An error document of any code.
pub(crate) fn document(
    code: &str,
    message: &str,
    request_id: &str,
    host: &str,
    details: &[(&'static str, String)],
    ec: &str,
) -> String {
    let mut xml = Document::new("Error");
    xml.text("Code", code);
    xml.text("Message", message);
    xml.text("RequestId", request_id);
    xml.text("HostId", host);
    for (name, value) in details {
        xml.text(name, value);
    }
    xml.text("EC", ec);
    xml.finish()
}

impl From<io::Error> for Failure {
    /// The details of a failing disk are for the operator's log, not for the client.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::Unsupported {
            return Self::not_implemented("reading objects: its store keeps no bytes");
        }
        tracing::error!(%error, "the store failed");
        let hint = if error.kind() == io::ErrorKind::StorageFull { " The store is full." } else { "" };
        Self::new(Code::InternalError, format!("The store could not do this; its log says why.{hint}"))
    }
}

macro_rules! codes {
    ($($name:ident $status:literal $ec:literal,)*) => {
        /// An error code of the service. Those that this server never meets can be injected.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code { $($name,)* }

        impl Code {
            const ALL: &[Self] = &[$(Self::$name,)*];

            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.name() == name)
            }

            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            pub fn status(self) -> StatusCode {
                let number: u16 = match self { $(Self::$name => $status,)* };
                StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// The finer code of `x-oss-ec`; zeros where the service's is not known.
            pub fn ec(self) -> &'static str {
                match self { $(Self::$name => $ec,)* }
            }
        }
    };
}

codes! {
    AccessDenied 403 "0003-00000001",
    AccessKeyIdAndSecurityTokenNotMatch 403 "0000-00000000",
    ActiveRequestLimitExceeded 503 "0000-00000000",
    BadRequest 400 "0000-00000000",
    BucketAlreadyExists 409 "0015-00000104",
    BucketDisable 403 "0000-00000000",
    BucketNotEmpty 409 "0000-00000000",
    CallbackFailed 203 "0007-00000203",
    CpuLimitExceeded 503 "0000-00000000",
    DownloadTrafficRateLimitExceeded 503 "0000-00000000",
    EntityTooLarge 400 "0000-00000000",
    EntityTooSmall 400 "0000-00000000",
    FileAlreadyExists 409 "0026-00000002",
    FileImmutable 409 "0000-00000000",
    FilePartNotExist 400 "0000-00000000",
    FilePartStale 400 "0000-00000000",
    InternalError 500 "0000-00000000",
    InvalidAccessKeyId 403 "0002-00000902",
    InvalidArgument 400 "0000-00000000",
    InvalidBucketName 400 "0000-00000000",
    InvalidDigest 400 "0000-00000000",
    InvalidObjectName 400 "0000-00000000",
    InvalidObjectState 403 "0000-00000000",
    InvalidPart 400 "0000-00000000",
    InvalidPartOrder 400 "0042-00000209",
    InvalidRange 416 "0000-00000000",
    InvalidSecurityToken 403 "0002-00000008",
    InvalidTargetType 400 "0000-00000000",
    MalformedXML 400 "0016-00000608",
    MetaOperationQpsLimitExceeded 503 "0000-00000000",
    MethodNotAllowed 405 "0000-00000000",
    MissingArgument 400 "0000-00000000",
    MissingContentLength 411 "0017-00000101",
    NoSuchBucket 404 "0015-00000101",
    NoSuchKey 404 "0026-00000001",
    NoSuchUpload 404 "0042-00000002",
    NotImplemented 501 "0000-00000000",
    ObjectNotAppendable 409 "0000-00000000",
    NotSymlink 400 "0043-00000101",
    OperationNotSupported 400 "0016-00000702",
    PartAlreadyExist 409 "0042-00000108",
    PartNotSequential 400 "0042-00000105",
    PositionNotEqualToLength 409 "0026-00000016",
    PreconditionFailed 412 "0000-00000000",
    QpsLimitExceeded 429 "0000-00000000",
    RequestTimeTooSkewed 403 "0000-00000000",
    RequestTimeout 400 "0000-00000000",
    RestoreAlreadyInProgress 409 "0016-00000701",
    SecondLevelDomainForbidden 403 "0000-00000000",
    SecurityTokenExpired 403 "0002-00000007",
    ServiceUnavailable 503 "0000-00000000",
    SignatureDoesNotMatch 403 "0002-00000040",
    SymlinkTargetNotExist 404 "0000-00000000",
    TooManyBuckets 400 "0000-00000000",
    TotalQpsLimitExceeded 503 "0004-00000302",
    UploadTrafficRateLimitExceeded 503 "0000-00000000",
    UserDisable 403 "0000-00000000",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_error_table_is_known_with_its_status() {
        let table: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/errors.json")).expect("errors.json is JSON");
        let rows = table["errors"].as_array().expect("a list of errors");
        for row in rows {
            let name = row["code"].as_str().expect("a name");
            let code = Code::named(name).unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!(row["http_status"], code.status().as_u16(), "{}", code.name());
            let finer = row["ec"].as_array().expect("finer codes");
            let is_known = code.ec() == "0000-00000000" || finer.is_empty() || finer.iter().any(|ec| ec == code.ec());
            assert!(is_known, "{} {}", code.name(), code.ec());
        }
    }

    #[test]
    fn the_error_document_escapes_what_the_client_sent() {
        let failure = Failure::argument("max-parts", "<&>", "out of range");
        let xml = failure.document("ID", "host");
        assert!(xml.contains("<ArgumentValue>&lt;&amp;&gt;</ArgumentValue>"), "{xml}");
        assert!(xml.contains("<EC>0000-00000000</EC>"), "{xml}");
        assert!(failure.ec("0042-00000216").document("ID", "host").contains("<EC>0042-00000216</EC>"));
    }
}
