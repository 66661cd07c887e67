//! A server that is not the one that was meant gets nothing: exit 4, one connection, and a message that says why.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::common::canned::{canned, http};
use crate::common::meddler::{Fate, meddle};
use crate::common::*;

const PARTS: [&str; 2] = ["--part-size", "100KiB"];

/// A certificate for `name`, signed by itself, that ends in `last_year`; the files of certificate and key.
fn certificate(directory: &Path, name: &str, last_year: i32) -> [PathBuf; 2] {
    let directory = directory.join("server");
    std::fs::create_dir_all(&directory).unwrap();
    certificate_of(&directory, name, last_year, rcgen::IsCa::NoCa)
}

/// The same, of a kind that may sign others.
fn authority(directory: &Path, name: &str, last_year: i32) -> [PathBuf; 2] {
    let directory = directory.join("authority");
    std::fs::create_dir_all(&directory).unwrap();
    certificate_of(&directory, name, last_year, rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained))
}

fn certificate_of(directory: &Path, name: &str, last_year: i32, is_ca: rcgen::IsCa) -> [PathBuf; 2] {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = is_ca;
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let files = ["cert", "key"].map(|kind| directory.join(format!("{name}-{last_year}-{kind}.pem")));
    std::fs::write(&files[0], made.pem()).unwrap();
    std::fs::write(&files[1], key.serialize_pem()).unwrap();
    files
}

fn served(directory: &Path, [cert, key]: &[PathBuf; 2]) -> Served {
    Served::start_with(directory, &["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()])
}

/// What a put to `endpoint` says that must end with 4.
fn refused(directory: &Path, endpoint: &str, trusted: &Path) -> String {
    let (file, _) = random_file(directory, 350 << 10, 1);
    let options = [&PARTS[..], &["--ca-cert", trusted.to_str().unwrap()]].concat();
    let output = put(&file, endpoint, &options).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(exit_code(&output), 4, "{said}");
    assert!(!said.contains("--ca-cert"), "it was given: {said}");
    assert!(!text(&output.stdout).contains("retrying"), "{said}");
    said
}

#[test]
fn what_encryption_costs_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let files = certificate(scratch.path(), "127.0.0.1", 2200);
    let store = served(scratch.path(), &files);
    let (file, _) = random_file(scratch.path(), 2 << 20, 1);
    let trusted = ["--ca-cert", files[0].to_str().unwrap()];
    let events = put_well(&file, &store.endpoint, &[&PARTS[..], &["--explain"], &trusted].concat());
    let stages = &named(&events, "explained")[0]["stages"];
    for stage in ["tls", "socket", "checksum"] {
        assert!(stages[stage].as_f64() > Some(0.0), "{stage}: {stages}");
    }
    let clear = Served::start(&scratch.path().join("clear"));
    let events = put_well(&file, &clear.endpoint, &[&PARTS[..], &["--explain"]].concat());
    assert_eq!(named(&events, "explained")[0]["stages"]["tls"], 0.0);
}

#[test]
fn wrong_names_expired_and_unknown_certificates_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let good = certificate(scratch.path(), "127.0.0.1", 2200);
    for (name, last_year, is_trusted, why) in [
        ("store.example.org", 2200, true, "is for another name"),
        ("127.0.0.1", 2001, true, "has expired"),
        ("127.0.0.1", 2199, false, "is not one of an authority that is trusted here"),
    ] {
        let shown = certificate(scratch.path(), name, last_year);
        let store = served(scratch.path(), &shown);
        let trusted = if is_trusted { &shown[0] } else { &good[0] };
        let said = refused(scratch.path(), &store.endpoint, trusted);
        assert!(said.contains(why), "{said}");
    }
    let store = served(scratch.path(), &good);
    let (file, content) = random_file(scratch.path(), 350 << 10, 1);
    put_well(&file, &store.endpoint, &[&PARTS[..], &["--ca-cert", good[0].to_str().unwrap()]].concat());
    assert!(store.holds(&content), "what is right is not refused");
}

/// What `openssl req -x509` makes: a certificate that is its own authority, and the server's as well.
#[test]
fn a_certificate_that_is_its_own_authority_is_trusted_where_it_is_named_itself() {
    let scratch = tempfile::tempdir().unwrap();
    let good = authority(scratch.path(), "127.0.0.1", 2200);
    let store = served(scratch.path(), &good);
    let (file, content) = random_file(scratch.path(), 350 << 10, 1);
    put_well(&file, &store.endpoint, &[&PARTS[..], &["--ca-cert", good[0].to_str().unwrap()]].concat());
    assert!(store.holds(&content));
    let by_the_system = |mut command: std::process::Command| command.env("SSL_CERT_FILE", &good[0]).output().unwrap();
    let kept = by_the_system(put(&file, &store.endpoint, &PARTS));
    assert!(kept.status.success(), "the system's certificates count in the same way: {}", text(&kept.stderr));
    let other = authority(scratch.path(), "127.0.0.1", 2199);
    assert!(refused(scratch.path(), &store.endpoint, &other[0]).contains("CA:TRUE"));
    let unknown = by_the_system(put(&file, &served(&scratch.path().join("other"), &other).endpoint, &PARTS));
    assert!(exit_code(&unknown) == 4 && text(&unknown.stderr).contains("--ca-cert FILE"), "{}", text(&unknown.stderr));
    for (name, last_year, why) in
        [("store.example.org", 2200, "is for another name"), ("127.0.0.1", 2001, "has expired")]
    {
        let shown = authority(scratch.path(), name, last_year);
        let said = refused(scratch.path(), &served(&scratch.path().join(why), &shown).endpoint, &shown[0]);
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_certificate_is_trusted_where_it_is_named_though_its_issuer_is_not() {
    let scratch = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(params, rcgen::KeyPair::generate().unwrap());
    let files = ["leaf.pem", "leaf-key.pem"].map(|name| scratch.path().join(name));
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(&files[0], leaf.pem()).unwrap();
    std::fs::write(&files[1], key.serialize_pem()).unwrap();
    let store = served(scratch.path(), &files);
    let (file, content) = random_file(scratch.path(), 350 << 10, 1);
    put_well(&file, &store.endpoint, &[&PARTS[..], &["--ca-cert", files[0].to_str().unwrap()]].concat());
    assert!(store.holds(&content));
    let other = certificate(scratch.path(), "127.0.0.1", 2200);
    assert!(refused(scratch.path(), &store.endpoint, &other[0]).contains("neither its issuer nor itself"));
}

type Answer = fn(&str) -> Vec<u8>;

/// A ServerHello of TLS 1.1 (RFC 4346, section 7.4.1.3) that chooses AES-128 with SHA.
fn tls_1_1() -> Vec<u8> {
    let hello = [&[2, 0, 0, 38, 3, 2][..], &[7; 32], &[0, 0xc0, 0x13, 0]].concat();
    [&[22, 3, 2, 0, hello.len() as u8], &hello[..]].concat()
}

#[test]
fn old_protocols_and_plain_http_on_a_port_for_tls_are_refused_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let good = certificate(scratch.path(), "127.0.0.1", 2200);
    let answers: [(Answer, &str); 6] = [
        (|_| tls_1_1(), "TLS 1.2 and 1.3"),
        (|_| http("200 OK", "", ""), "not TLS"),
        (|_| http("400 Bad Request", "", ""), "a port for plain HTTP (http://)"),
        // An alert: no_application_protocol.
        (|_| vec![21, 3, 3, 0, 2, 2, 120], "HTTP/2 only"),
        // Alerts: protocol_version and handshake_failure.
        (|_| vec![21, 3, 2, 0, 2, 2, 70], "TLS 1.2 and 1.3"),
        (|_| vec![21, 3, 2, 0, 2, 2, 40], "TLS 1.2 and 1.3"),
    ];
    for (answer, why) in answers {
        let (server, visits) = canned(answer);
        let said = refused(scratch.path(), &format!("https://{server}"), &good[0]);
        assert!(said.contains(why), "{said}");
        assert_eq!(visits.load(Ordering::SeqCst), 1, "{why}: nobody is asked twice");
    }
}

#[test]
fn plain_http_to_the_world_is_warned_of_once() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_with(scratch.path(), &["--base-domain", "oss-cn-hangzhou.aliyuncs.com"]);
    // Nothing leaves this machine: a proxy stands in for the world.
    let (_runtime, world) = meddle(store.address(), |_| Fate::Forward);
    let (file, content) = random_file(scratch.path(), 350 << 10, 1);
    let proxy = world.endpoint();
    let options = [&PARTS[..], &["--proxy", &proxy]].concat();
    let events = put_well(&file, "http://oss-cn-hangzhou.aliyuncs.com", &options);
    assert!(store.holds(&content));
    let warnings = named(&events, "warning");
    assert_eq!(warnings.len(), 1, "{events:?}");
    assert!(warnings[0]["message"].as_str().unwrap().contains("https://"));
    let own = put_well(&file, &store.endpoint, &[&PARTS[..], &["--addressing", "path"]].concat());
    assert!(named(&own, "warning").is_empty(), "{own:?}");
}

/// What is piped can be read once: here by those who connect to the store and by those who would ask STS.
#[test]
fn authorities_are_read_once_and_with_a_byte_order_mark() {
    use std::io::Write;
    const TOKEN: &str = "a-token-of-sts";
    let scratch = tempfile::tempdir().unwrap();
    let [cert, key] = certificate(scratch.path(), "127.0.0.1", 2200);
    let marked = [b"\xef\xbb\xbf", &std::fs::read(&cert).unwrap()[..]].concat();
    std::fs::write(&cert, &marked).unwrap();
    let mut serve = haul();
    serve.env("OSS_SESSION_TOKEN", TOKEN);
    let tls = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let store = Served::start_as(serve, scratch.path(), &tls);
    let sts = canned(|_| {
        let lent = serde_json::json!({ "AccessKeyId": ID, "AccessKeySecret": SECRET, "SecurityToken": TOKEN,
                                       "Expiration": "2099-01-01T06:00:00Z" });
        http("200 OK", "", &serde_json::json!({ "Credentials": lent }).to_string())
    });
    let config = scratch.path().join("config");
    let role = "[default]\nmode=RamRoleArn\naccessKeyID=i\naccessKeySecret=s\nramRoleArn=r\n";
    std::fs::write(&config, role).unwrap();
    let (file, content) = random_file(scratch.path(), 350 << 10, 1);
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&marked).unwrap();
    drop(writer);
    let mut put = put(&file, &store.endpoint, &["--ca-cert", "/dev/stdin", "--config", config.to_str().unwrap()]);
    let output = put.env("HAUL_STS_ENDPOINT", format!("http://{}", sts.0)).stdin(reader).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(store.holds(&content));
}
