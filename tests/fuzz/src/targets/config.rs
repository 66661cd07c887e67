//! What files, options and processes say: nothing that is read repeats a secret where it is refused, and what can be
//! written is written and read to the same.

use haul::model::receipt::Receipt;
use haul::server::{FaultRule, Shape};
use haul::store::credentials::aliyun::Profiles;
use haul::store::credentials::ossutil::OssutilConfig;
use haul::store::credentials::source::Source;
use haul::store::credentials::{Credentials, CredentialsError, alibabacloud, answer, instance_role, sts};

/// A secret as seeds have it: no refusal may show it.
const CANARY: &str = "c4n4ry";

pub fn run(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        files(text);
        options(text);
    }
    answers(input);
    receipts(input);
}

fn files(text: &str) {
    for profile in [None, Some("p")] {
        if let Some(config) = quiet(OssutilConfig::parse(text, profile)) {
            config.endpoint("demo");
            check_source(config.source());
        }
    }
    check_source(alibabacloud::source(text, "default"));
    if let Some(profiles) = quiet(Profiles::parse(text)) {
        check_source(profiles.current().and_then(|current| profiles.source(current)));
    }
}

fn check_source(source: Result<Option<Source>, CredentialsError>) {
    let mut source = quiet(source).flatten();
    let mut depth = 0;
    while let Some(here) = source {
        depth += 1;
        assert!(depth <= 10, "a chain that ends");
        source = match here {
            Source::Key(key) => return check_key(&key),
            Source::Role { asker, .. } => Some(*asker),
            _ => None,
        };
    }
}

fn check_key(key: &Credentials) {
    assert!(!key.access_key_id.is_empty() && !key.access_key_secret.is_empty());
    assert!(key.clone().checked().is_ok(), "a header can carry it");
}

/// What was read; of what was refused, makes sure that its words hold no secret. A name of a mode, a profile or a source
/// is no secret.
fn quiet<T>(read: Result<T, CredentialsError>) -> Option<T> {
    if let Err(error) = &read {
        let named = matches!(error, CredentialsError::Mode(..) | CredentialsError::NoProfile(_));
        let named = named || matches!(error, CredentialsError::Endless(..));
        assert!(named || !error.to_string().contains(CANARY), "{error}");
    }
    read.ok()
}

fn options(text: &str) {
    if let Ok(rule) = text.parse::<FaultRule>() {
        assert_eq!(rule.to_string().parse::<FaultRule>().as_ref(), Ok(&rule));
    }
    let shapes = [text.parse::<Shape>().ok(), Shape::from_toml(text).ok()];
    for shape in shapes.into_iter().flatten() {
        assert!((0.0..=1.0).contains(&shape.slow_share) && (1.0..=1000.0).contains(&shape.slow_factor));
        assert!(shape.round_trip.as_secs() <= 10);
        assert!(shape.connection_bytes_per_second != Some(0) && shape.total_bytes_per_second != Some(0));
    }
}

/// Of the metadata server, credential URLs, processes, and STS.
fn answers(input: &[u8]) {
    let response = http::Response::new(bytes::Bytes::copy_from_slice(input));
    for read in [answer::read(input), sts::read(&response), instance_role::credentials(&response)] {
        match read {
            Ok(key) => check_key(&key),
            Err(fault) => assert!(super::is_shown_safely(&fault.to_string()), "{fault}"),
        }
    }
    if let Ok(name) = instance_role::name(&response) {
        assert!(instance_role::request("http://h", Some(&name), None).is_ok());
    }
    let _ = instance_role::token(&response);
}

fn receipts(input: &[u8]) {
    if let Ok(receipt) = Receipt::from_json(input) {
        let written = serde_json::to_vec(&receipt).expect("plain data");
        assert_eq!(Receipt::from_json(&written).expect("written by us"), receipt);
        assert!(receipt.parts.len() <= 10_000);
    }
}
