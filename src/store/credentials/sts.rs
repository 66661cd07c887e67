//! STS lends roles (specification, sections 7.4 and 7.5).

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response};
use serde::Deserialize;
use sha1::Sha1;

use super::Credentials;
use super::answer::{self, KeyDocument, refused, shown};
use super::source::Role;
use crate::model::retry::Fault;
use crate::store::oss::encode;

type Pairs<'a> = Vec<(&'a str, String)>;

/// Asks the STS at `endpoint` for `role` with the key of `asker`, at time `at`. `nonce` must be another each time.
///
/// # Errors
/// A fault if `endpoint` is no address.
pub fn assume_role(
    endpoint: &str,
    role: &Role,
    asker: &Credentials,
    at: SystemTime,
    nonce: &str,
) -> Result<Request<Bytes>, Fault> {
    let mut query = common("AssumeRole", at, nonce);
    query.push(("AccessKeyId", asker.access_key_id.clone()));
    query.push(("SignatureMethod", "HMAC-SHA1".into()));
    query.push(("SignatureVersion", "1.0".into()));
    if let Some(token) = &asker.session_token {
        query.push(("SecurityToken", token.to_string()));
    }
    let form = of_role(role);
    let all = query.iter().chain(&form).cloned().collect();
    query.push(("Signature", signature("POST", all, &asker.access_key_secret)));
    post(endpoint, &query, &form)
}

/// Asks the STS at `endpoint` for `role` with the token of an OIDC provider; such requests are not signed.
///
/// # Errors
/// A fault if `endpoint` is no address.
pub fn assume_role_with_oidc(
    endpoint: &str,
    role: &Role,
    provider_arn: &str,
    token: &str,
    at: SystemTime,
    nonce: &str,
) -> Result<Request<Bytes>, Fault> {
    let mut form = of_role(role);
    form.push(("OIDCProviderArn", provider_arn.into()));
    form.push(("OIDCToken", token.into()));
    post(endpoint, &common("AssumeRoleWithOIDC", at, nonce), &form)
}

/// The credentials in the answer to either.
///
/// # Errors
/// A passing fault if STS is in trouble, else one of the kind [`crate::model::retry::FaultKind::Credentials`] with the
/// code of STS. Its message is left out: it may repeat what was signed, which holds the token of the asker.
pub fn read(response: &Response<Bytes>) -> Result<Credentials, Fault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Lent {
        credentials: Option<KeyDocument>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Refusal {
        code: Option<String>,
        request_id: Option<String>,
    }
    let body = match answer::body(response) {
        Ok(body) => body,
        Err(mut fault) => {
            if let Ok(refusal) = answer::json::<Refusal>(response.body()) {
                fault.code = refusal.code.map(|code| shown(&code).into());
                fault.request_id = refusal.request_id.map(|id| shown(&id));
            }
            fault.message = format!("STS does not lend the role: {}", fault.message);
            return Err(fault);
        }
    };
    let lent = answer::json::<Lent>(body)?.credentials;
    lent.ok_or_else(|| refused("the answer of STS holds no credentials"))?.credentials()
}

fn common(action: &str, at: SystemTime, nonce: &str) -> Pairs<'static> {
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    vec![
        ("Action", action.into()),
        ("Version", "2015-04-01".into()),
        ("Format", "JSON".into()),
        ("Timestamp", at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ("SignatureNonce", nonce.into()),
    ]
}

fn of_role(role: &Role) -> Pairs<'static> {
    let mut pairs = vec![
        ("RoleArn", role.arn.clone()),
        ("RoleSessionName", role.session_name.clone()),
        ("DurationSeconds", role.seconds.to_string()),
    ];
    pairs.extend(role.policy.clone().map(|policy| ("Policy", policy)));
    pairs.extend(role.external_id.clone().map(|id| ("ExternalId", id)));
    pairs
}

fn encoded(pairs: &[(&str, String)]) -> String {
    let pair = |(name, value): &(&str, String)| format!("{}={}", encode::all(name), encode::all(value));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn signature(method: &str, mut pairs: Pairs<'_>, secret: &str) -> String {
    pairs.sort_unstable();
    let text = format!("{method}&%2F&{}", encode::all(&encoded(&pairs)));
    let keyed = zeroize::Zeroizing::new(format!("{secret}&"));
    let mut mac = Hmac::<Sha1>::new_from_slice(keyed.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn post(endpoint: &str, query: &Pairs<'_>, form: &Pairs<'_>) -> Result<Request<Bytes>, Fault> {
    let mut request =
        answer::request(Method::POST, &format!("{endpoint}/?{}", encoded(query)), Bytes::from(encoded(form)))?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use zeroize::Zeroizing;

    use super::*;

    const AT: SystemTime = UNIX_EPOCH;

    #[test]
    fn a_request_for_a_role_is_signed_over_query_and_form() {
        let role = Role {
            policy: Some("{\"a\": \"*~\"}".into()),
            external_id: Some("e x".into()),
            ..Role::new("acs:ram::1:role/r")
        };
        let asker =
            Credentials { session_token: Some(Zeroizing::new("to+ken/=".into())), ..Credentials::new("ak", "sk") };
        let at = AT + Duration::from_secs(1_735_689_600);
        let request = assume_role("https://sts.aliyuncs.com", &role, &asker, at, "n-1").unwrap();
        let query = request.uri().query().unwrap();
        // Computed with hmac, hashlib and urllib.parse.quote of Python from the rule in section 7.5.
        assert!(query.ends_with(&format!("&Signature={}", encode::all("xL3HGQRFCweGU0l5VdIJyY5b0ws="))), "{query}");
        assert!(query.contains("&Timestamp=2025-01-01T00%3A00%3A00Z&"), "{query}");
        assert!(
            request
                .body()
                .starts_with(b"RoleArn=acs%3Aram%3A%3A1%3Arole%2Fr&RoleSessionName=haul&DurationSeconds=3600")
        );
    }

    #[test]
    fn a_refusal_is_named_by_its_code_and_repeats_nothing_that_was_signed() {
        let body = r#"{"Code":"SignatureDoesNotMatch","Message":"POST&%2F&SecurityToken%3Dcanary","RequestId":"R-1"}"#;
        let fault =
            read(&Response::builder().status(400).body(Bytes::from_static(body.as_bytes())).unwrap()).unwrap_err();
        assert_eq!((fault.code.as_deref(), fault.request_id.as_deref()), (Some("SignatureDoesNotMatch"), Some("R-1")));
        assert!(!fault.to_string().contains("canary") && !fault.kind.is_passing(), "{fault}");
        assert!(read(&Response::new(Bytes::from_static(b"{}"))).is_err());
    }
}
