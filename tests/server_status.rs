//! The status page, seen by a browser and by those who should not see it, and the access log.
//!
//! Needs `chromium` (the package of that name); `.ci/run` installs it.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::server_support::*;
use haul::server::{LogTarget, StoreKind};
use serde_json::Value;

fn with_status() -> Running {
    let mut config = config(StoreKind::Memory);
    config.status = true;
    config.faults.rules = vec!["PutObject:#3:error,code=ServiceUnavailable".parse().unwrap()];
    try_start(config).unwrap()
}

fn ask(server: &Running, method: &str, path: &str, host: &str) -> Reply {
    let mut stream = TcpStream::connect(server.address).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n").unwrap();
    read_reply(&mut stream, method == "HEAD")
}

/// What a browser has made of the page once it has asked for the figures.
fn seen_in_browser(url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=5000", "--dump-dom", url])
        .env_remove("http_proxy")
        .output()
        .expect("this test needs chromium: install the package chromium");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_browser_shows_buckets_objects_uploads_and_faults_and_no_markup_of_a_hostile_key() {
    let server = with_status();
    let hostile = "<script>document.title='gone'</script><b>&amp;";
    let path = "/demo/%3Cscript%3Edocument.title%3D'gone'%3C%2Fscript%3E%3Cb%3E&amp;";
    Call::new("PUT", path, &format!("/demo/{hostile}")).body("12345").send(&server).expect(200);
    call("PUT", "plain-object").body(vec![0; 3 << 20]).send(&server).expect(200);
    call("PUT", "refused").body("x").send(&server).refused(503, "ServiceUnavailable");
    let id = initiate(&server, "under-way");
    for number in [1, 2, 3, 9] {
        upload_part(&server, "under-way", &id, number, b"part");
    }
    let page = seen_in_browser(&format!("http://{}/_haul/", server.address));
    for text in [
        "<td>demo</td>",
        "<td>plain-object</td><td class=\"number\">3.00 MiB</td>",
        "<td>under-way</td>",
        &id,
        "<td>1-3, 9</td>",
        "<td>PutObject:#3:error,code=ServiceUnavailable</td><td>PutObject</td><td>refused</td>",
        "&lt;script&gt;document.title='gone'&lt;/script&gt;&lt;b&gt;&amp;amp;",
        "received since the start",
    ] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    assert!(page.contains("<title>haul serve</title>") && !page.contains("<b>&amp;"), "{page}");
}

#[test]
fn the_page_is_for_this_machine_only_and_only_read() {
    let server = with_status();
    let host = server.address.to_string();
    let page = ask(&server, "GET", "/_haul/", &host).expect(200);
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.contains("default-src 'none'") && page.text().contains("haul serve"), "{policy}");
    let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    assert!(page.text().contains(&nonce) && !ask(&server, "GET", "/_haul/", &host).text().contains(&nonce));
    for name in ["evil.example", "evil.example:80", "", "localhost.evil.example"] {
        ask(&server, "GET", "/_haul/status.json", name).expect(403);
    }
    ask(&server, "GET", "/_haul/status.json", "localhost").expect(200);
    ask(&server, "GET", "/_haul/none", &host).expect(404);
    ask(&server, "POST", "/_haul/", &host).expect(405);
    assert_eq!(ask(&server, "HEAD", "/_haul/", &host).expect(200).body, b"");
}

#[test]
fn there_is_no_page_unless_it_was_asked_for() {
    let server = start(StoreKind::Memory);
    ask(&server, "GET", "/_haul/", "127.0.0.1").refused(400, "InvalidBucketName");
}

#[test]
fn the_figures_are_bounded_and_never_hold_a_secret() {
    let server = with_status();
    for number in 0..130 {
        let key = format!("k{number:03}");
        let status = call("PUT", &key).body("x").send(&server).status;
        assert!(status == 200 || status == 503);
    }
    let reply = ask(&server, "GET", "/_haul/status.json", "127.0.0.1").expect(200);
    let status: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(status["buckets"][0]["first"].as_array().unwrap().len(), 100);
    assert_eq!(status["buckets"][0]["objects"], 129);
    assert_eq!((status["requests"].as_u64(), status["bytes_in"].as_u64()), (Some(130), Some(129)));
    assert!(!reply.text().contains(SECRET));
}

#[test]
fn every_request_is_one_line_of_the_access_log_without_its_signature() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let server = {
        let mut config = config(StoreKind::Memory);
        config.access_log = Some(LogTarget::File(path.clone()));
        config.faults.rules = vec!["GetObject:#2:error,code=InternalError".parse().unwrap()];
        try_start(config).unwrap()
    };
    call("PUT", "k").body("12345").send(&server).expect(200);
    call("GET", "k").send(&server).expect(200);
    let refused = call("GET", "k").send(&server).refused(500, "InternalError");
    call("PUT", "UP%zz").body("").send(&server).expect(400);
    let end = Instant::now() + Duration::from_secs(60);
    let text = loop {
        let text = std::fs::read_to_string(&path).unwrap();
        if text.lines().count() == 4 && text.ends_with('\n') {
            break text;
        }
        assert!(Instant::now() < end, "the log is written: {text}");
    };
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let facts = |line: &Value| (line["method"].clone(), line["operation"].clone(), line["status"].clone());
    assert_eq!(facts(&lines[0]), ("PUT".into(), "PutObject".into(), 200.into()));
    assert_eq!((lines[0]["bytes_in"].as_u64(), lines[0]["bytes_out"].as_u64()), (Some(5), Some(0)));
    assert_eq!((lines[0]["bucket"].as_str(), lines[0]["key"].as_str()), (Some("demo"), Some("k")));
    assert_eq!((lines[1]["bytes_in"].as_u64(), lines[1]["bytes_out"].as_u64()), (Some(0), Some(5)));
    assert_eq!(facts(&lines[2]), ("GET".into(), "GetObject".into(), 500.into()));
    assert_eq!(
        (lines[2]["code"].as_str(), lines[2]["fault"].as_str()),
        (Some("InternalError"), Some("GetObject:#2:error,code=InternalError"),)
    );
    assert_eq!(lines[2]["request_id"], refused.header("x-oss-request-id"));
    assert_eq!((lines[3]["code"].as_str(), lines[3]["operation"].as_str()), (Some("InvalidArgument"), None));
    assert!(lines.iter().all(|line| line["peer"].as_str().unwrap().starts_with("127.0.0.1:")));
    assert!(!text.contains("OSS ") && !text.contains(ID) && !text.contains(SECRET), "{text}");
}
