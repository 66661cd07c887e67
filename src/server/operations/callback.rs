//! Callbacks: after an object was stored, its application is told by a POST, and what that answers is the answer to the
//! client. Only plain HTTP; a callback that cannot be made is refused before anything is stored.
//!
//! # Source
//! Specification, sections 4.14 and 8.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::Answer;
use crate::server::errors::{Code, Failure};
use crate::server::outgoing::outgoing;
use crate::server::request::Request;
use crate::server::store::{Address, Object};
use crate::server::xml::ENCODED;

/// The service waits as long.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer passed through, in bytes.
const ANSWER_MAX: usize = 1 << 20;
/// Most URLs, tried in turn.
const URLS_MAX: usize = 5;
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A callback as it was asked for.
pub(super) struct Callback {
    urls: Vec<Uri>,
    host: Option<String>,
    template: String,
    content_type: String,
    variables: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    callback_url: String,
    callback_host: Option<String>,
    callback_body: String,
    callback_body_type: Option<String>,
}

impl Callback {
    /// What the headers or the query ask for; `None` for no callback.
    ///
    /// # Errors
    /// `InvalidArgument` for what cannot be understood, `NotImplemented` for URLs that are not plain HTTP.
    pub fn of(request: &Request) -> Result<Option<Self>, Failure> {
        let given = |header: &str, query: &str| request.header(header).or_else(|| request.query(query));
        let Some(text) = given("x-oss-callback", "callback") else { return Ok(None) };
        let wanted: Wanted = decode("x-oss-callback", text)?;
        let variables = given("x-oss-callback-var", "callback-var");
        let variables = variables.map_or_else(|| Ok(HashMap::new()), |text| decode("x-oss-callback-var", text))?;
        let content_type = wanted.callback_body_type.unwrap_or_else(|| FORM.to_owned());
        if content_type != FORM && content_type != JSON {
            return Err(Failure::argument("callbackBodyType", &content_type, format!("It is {FORM} or {JSON}.")));
        }
        let urls: Vec<&str> = wanted.callback_url.split(';').map(str::trim).filter(|url| !url.is_empty()).collect();
        if urls.is_empty() || urls.len() > URLS_MAX {
            let message = format!("It names 1 to {URLS_MAX} URLs.");
            return Err(Failure::argument("callbackUrl", &wanted.callback_url, message));
        }
        let urls = urls.into_iter().map(checked_url).collect::<Result<_, _>>()?;
        let host = wanted.callback_host.filter(|host| !host.is_empty());
        Ok(Some(Self { urls, host, template: wanted.callback_body, content_type, variables }))
    }

    /// Tells the application, and answers with what it said. `answer` is what the client would get without.
    ///
    /// # Errors
    /// `CallbackFailed` (203): the object is stored all the same.
    pub async fn make(self, at: &Address, object: &Object, mut answer: Answer) -> Result<Answer, Failure> {
        let body = Bytes::from(self.body(at, object));
        let mut why = String::new();
        for url in &self.urls {
            match tokio::time::timeout(TIMEOUT, self.post(url, body.clone())).await {
                Ok(Ok(said)) => {
                    answer.set("content-type", JSON);
                    answer.bytes = Some(said.len() as u64);
                    answer.body = outgoing(said);
                    return Ok(answer);
                }
                Ok(Err(error)) => why = error,
                Err(_) => why = told_all_the_same(&format!("no answer within {} seconds", TIMEOUT.as_secs())),
            }
        }
        let mut failure = Failure::new(Code::CallbackFailed, why);
        for name in ["etag", "x-oss-hash-crc64ecma"] {
            let value = answer.headers.get(name).and_then(|value| value.to_str().ok());
            failure = value.map(str::to_owned).into_iter().fold(failure, |failure, value| failure.header(name, value));
        }
        Err(failure)
    }

    /// The template with its placeholders filled in: percent-encoded in forms, as JSON text in JSON.
    fn body(&self, at: &Address, object: &Object) -> String {
        let mut body = String::new();
        let mut rest = self.template.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, tail)) = after.split_once('}') else { break };
            body.push_str(before);
            let (value, is_number) = self.value(name, at, object);
            match self.content_type == JSON {
                false => body.push_str(&utf8_percent_encode(&value, ENCODED).to_string()),
                true if is_number => body.push_str(&value),
                true => {
                    let quoted = serde_json::Value::from(value).to_string();
                    let is_within_quotes = before.ends_with('"') && tail.starts_with('"');
                    body.push_str(if is_within_quotes { &quoted[1..quoted.len() - 1] } else { &quoted });
                }
            }
            rest = tail;
        }
        body + rest
    }

    /// What a placeholder stands for, and whether it is a number. One that is not known stands for nothing.
    fn value(&self, name: &str, at: &Address, object: &Object) -> (String, bool) {
        let text = |text: &str| (text.to_owned(), false);
        match name {
            "bucket" => text(at.bucket.as_str()),
            "object" => text(&at.key),
            "etag" => text(&object.etag),
            "size" => (object.bytes.to_string(), true),
            "mimeType" => text(object.header("content-type").unwrap_or("application/octet-stream")),
            "crc64" => (object.crc64.to_string(), true),
            "contentMd5" => text(object.content_md5.as_deref().unwrap_or("")),
            name => text(self.variables.get(name).map_or("", String::as_str)),
        }
    }

    /// # Errors
    /// The message for the client: of a status the service's own.
    async fn post(&self, url: &Uri, body: Bytes) -> Result<Bytes, String> {
        let (status, said) = self.exchange(url, body).await.map_err(|error| told_all_the_same(&error.to_string()))?;
        if status != StatusCode::OK {
            return Err(format!("Error status : {}.", status.as_u16()));
        }
        match serde_json::from_slice::<serde::de::IgnoredAny>(&said) {
            Ok(_) => Ok(said),
            Err(_) => Err(told_all_the_same(&format!("{url} did not answer with JSON"))),
        }
    }

    async fn exchange(&self, url: &Uri, body: Bytes) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
        let authority = url.authority().ok_or("the URL has no host")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(url.path_and_query().map_or("/", |target| target.as_str()))
            .header(HOST, self.host.as_deref().unwrap_or(authority.as_str()))
            .header(CONTENT_TYPE, &self.content_type)
            .header(CONTENT_LENGTH, body.len())
            .body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let said = Limited::new(response.into_body(), ANSWER_MAX).collect().await?.to_bytes();
        connection.abort();
        Ok((status, said))
    }
}

fn told_all_the_same(why: &str) -> String {
    format!("The object is stored, but its callback failed: {why}.")
}

/// Base64 of JSON.
fn decode<T: serde::de::DeserializeOwned>(name: &'static str, text: &str) -> Result<T, Failure> {
    let bytes = STANDARD.decode(text).ok();
    let decoded = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    decoded.ok_or_else(|| Failure::argument(name, text, "It is not the base64 of the JSON that is expected here."))
}

fn checked_url(text: &str) -> Result<Uri, Failure> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Uri = with_scheme.parse().map_err(|_| Failure::argument("callbackUrl", text, "It is not a URL."))?;
    match (url.scheme_str(), url.host()) {
        (Some("http"), Some(_)) => Ok(url),
        (Some("https"), _) => Err(Failure::not_implemented("callbacks over HTTPS")),
        _ => Err(Failure::argument("callbackUrl", text, "It is not a URL of HTTP.")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::model::object::Bucket;
    use crate::server::store::Kind;

    fn body(template: &str, content_type: &str) -> String {
        let variables = HashMap::from([("x:who".to_owned(), "a \"b\"".to_owned())]);
        let (urls, template) = (Vec::new(), template.to_owned());
        let callback = Callback { urls, host: None, template, content_type: content_type.to_owned(), variables };
        let at = Address { bucket: Bucket::new("demo").unwrap(), key: "a/b&c".to_owned() };
        let object = Object {
            key: at.key.clone(),
            bytes: 7,
            etag: "E".to_owned(),
            crc64: 9,
            content_md5: None,
            kind: Kind::Normal,
            headers: Vec::new(),
            modified: SystemTime::UNIX_EPOCH,
        };
        callback.body(&at, &object)
    }

    #[test]
    fn placeholders_are_written_so_that_the_other_side_can_read_them() {
        assert_eq!(body("o=${object}&s=${size}&w=${x:who}&n=${none}", FORM), "o=a%2Fb%26c&s=7&w=a%20%22b%22&n=");
        let json = r#"{"o":${object},"b":"${bucket}","s":${size},"w":${x:who}}"#;
        assert_eq!(body(json, JSON), r#"{"o":"a/b&c","b":"demo","s":7,"w":"a \"b\""}"#);
    }

    #[test]
    fn a_template_that_breaks_off_is_left_as_it_is() {
        assert_eq!(body("a=${size}&b=${", FORM), "a=7&b=${");
    }
}
