//! Every fault that can be ordered reaches a client, over a socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::server_support::*;
use haul::model::crc64::crc64;
use haul::server::{FaultRule, FaultSettings, Faults, Server, ServerError, StoreKind};

fn rules(texts: &[&str]) -> Vec<FaultRule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn with_settings(faults: FaultSettings) -> Running {
    let mut config = config(StoreKind::Memory);
    config.faults = faults;
    try_start(config).unwrap()
}

fn with(texts: &[&str]) -> Running {
    with_settings(FaultSettings { rules: rules(texts), ..FaultSettings::default() })
}

fn put(server: &Running, key: &str, body: &[u8]) -> Option<Reply> {
    call("PUT", key).body(body).try_send(server.address)
}

fn get(server: &Running, key: &str) -> Option<Reply> {
    call("GET", key).try_send(server.address)
}

/// Sends the head of a PUT of `all` bytes, then `sent` of them; how the connection ends.
fn half_a_put(server: &Running, all: usize, sent: usize) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(server.address)?;
    let head = call("PUT", "k").header("content-length", &all.to_string()).head(server.address);
    stream.write_all(head.as_bytes())?;
    stream.write_all(&vec![7; sent])?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.read(&mut [0; 1])
}

#[test]
fn any_error_can_be_ordered_with_status_code_and_delay() {
    let server = with(&[
        "PutObject:#1:error,code=UploadTrafficRateLimitExceeded,delay-ms=20",
        "PutObject:#2:error,code=RequestTimeout",
        "PutObject:#3:error,code=SecurityTokenExpired",
        "PutObject:#4:error,code=Odd,status=418,ec=0001-00000002",
    ]);
    let throttled = put(&server, "k", b"x").unwrap().refused(503, "UploadTrafficRateLimitExceeded");
    assert_eq!(throttled.header("x-oss-qos-delay-time"), "20");
    put(&server, "k", b"x").unwrap().refused(400, "RequestTimeout");
    let expired = put(&server, "k", b"x").unwrap().refused(403, "SecurityTokenExpired");
    assert_eq!(expired.header("x-oss-ec"), "0002-00000007");
    assert_eq!(put(&server, "k", b"x").unwrap().refused(418, "Odd").header("x-oss-ec"), "0001-00000002");
    get(&server, "k").unwrap().refused(404, "NoSuchKey");
    put(&server, "k", b"x").unwrap().expect(200);
}

#[test]
fn an_ordered_error_on_head_is_in_a_header() {
    let server = with(&["HeadObject:always:error,code=InternalError"]);
    let reply = call("HEAD", "k").send(&server).expect(500);
    assert!(!reply.header("x-oss-err").is_empty());
}

#[test]
fn connections_are_reset_when_they_are_accepted() {
    let server = with(&["connect:#1:reset"]);
    assert!(put(&server, "k", b"x").is_none());
    put(&server, "k", b"x").unwrap().expect(200);
}

#[test]
fn connections_are_refused_for_a_while_and_then_accepted_again() {
    let server = with(&["connect:#1:refuse,for=300ms"]);
    let _ = TcpStream::connect(server.address);
    let mut refused = false;
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < end, "the listener comes back");
        match TcpStream::connect(server.address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => refused = true,
            _ if refused => break,
            _ => {}
        }
    }
    put(&server, "k", b"x").unwrap().expect(200);
}

#[test]
fn a_connection_is_reset_before_in_and_after_the_body() {
    let server = with(&["PutObject:#1:reset", "PutObject:#2:reset-within,bytes=100000", "PutObject:#3:reset-after"]);
    for sent in [0, 150_000, 200_000] {
        let error = half_a_put(&server, 200_000, sent).expect_err("a reset");
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    }
    get(&server, "k").unwrap().refused(404, "NoSuchKey");
}

#[test]
fn a_download_is_reset_within_its_body() {
    let server = with(&["GetObject:#1:reset-within"]);
    put(&server, "k", &[7; 3_000_000]).unwrap().expect(200);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(call("GET", "k").head(server.address).as_bytes()).unwrap();
    let mut got = Vec::new();
    let error = stream.read_to_end(&mut got).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(got.len() <= 1_500_000, "{}", got.len());
    assert!(get(&server, "k").unwrap().expect(200).body == [7; 3_000_000]);
}

#[test]
fn an_answer_is_lost_after_the_operation_took_effect() {
    let server = with(&["PutObject,CompleteMultipartUpload:#1:lose-answer"]);
    assert!(put(&server, "k", b"kept").is_none());
    assert_eq!(get(&server, "k").unwrap().expect(200).body, b"kept");
    let server = with(&["CompleteMultipartUpload:#1:lose-answer"]);
    let id = initiate(&server, "m");
    let tag = upload_part(&server, "m", &id, 1, b"part");
    assert!(complete("m", &id, &[(1, tag.clone())]).try_send(server.address).is_none());
    assert_eq!(get(&server, "m").unwrap().expect(200).body, b"part");
    complete("m", &id, &[(1, tag)]).send(&server).refused(404, "NoSuchUpload");
}

#[test]
fn an_answer_comes_late() {
    let server = with(&["PutObject:#1:late,by=300ms"]);
    let begin = Instant::now();
    put(&server, "k", b"x").unwrap().expect(200);
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_connection_trickles_both_ways() {
    for way in ["in", "out"] {
        let server = with(&[&format!("connect:#1:trickle,rate=100000,way={way}")]);
        let mut stream = TcpStream::connect(server.address).unwrap();
        let begin = Instant::now();
        for call in [call("PUT", "k").body(vec![7; 100_000]), call("GET", "k")] {
            stream.write_all(call.head(server.address).as_bytes()).unwrap();
            stream.write_all(call.content()).unwrap();
            read_reply(&mut stream, false).expect(200);
        }
        assert!(begin.elapsed() >= Duration::from_millis(900), "{way}: {:?}", begin.elapsed());
    }
}

#[test]
fn a_hanging_request_is_never_answered_and_does_not_keep_the_server_from_ending() {
    let server = with(&["GetObject:always:hang", "connect:#2:hang"]);
    let mut hanging = TcpStream::connect(server.address).unwrap();
    hanging.write_all(call("GET", "k").head(server.address).as_bytes()).unwrap();
    let mut unheard = TcpStream::connect(server.address).unwrap();
    unheard.write_all(call("PUT", "k").body("x").head(server.address).as_bytes()).unwrap();
    put(&server, "k", b"x").unwrap().expect(200);
    for stream in [&hanging, &unheard] {
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let error = { stream }.read(&mut [0]).expect_err("no answer");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    }
    drop(server);
}

#[test]
fn a_connection_that_hangs_or_trickles_ends_with_its_client() {
    for rule in ["PutObject:always:hang", "connect:always:hang", "connect:always:trickle,rate=5,way=in"] {
        let server = with(&[rule]);
        let mut stream = TcpStream::connect(server.address).unwrap();
        let call = call("PUT", "k").body(vec![7; 100_000]);
        stream.write_all(call.head(server.address).as_bytes()).unwrap();
        stream.write_all(call.content()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let ended = stream.read(&mut [0]);
        let reset = ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        assert!(reset || ended.as_ref().is_ok_and(|bytes| *bytes == 0), "{rule}: {ended:?}");
    }
}

#[test]
fn the_checksum_header_is_wrong_or_missing() {
    let server = with(&["PutObject:#1:wrong-crc", "PutObject:#2:no-crc"]);
    let wrong = put(&server, "k", b"x").unwrap().expect(200);
    assert_eq!(wrong.header("x-oss-hash-crc64ecma"), (crc64(b"x") ^ 1).to_string());
    assert_eq!(put(&server, "k", b"x").unwrap().expect(200).header("x-oss-hash-crc64ecma"), "");
}

#[test]
fn a_bit_is_flipped_on_the_way_in_at_rest_and_on_the_way_out() {
    let server = with(&["PutObject:#1:flip,at=100000", "PutObject:#2:rot,at=100000", "GetObject:#3:flip,at=100000"]);
    let body = bytes(300_000, 1);
    let mut harmed = body.clone();
    harmed[100_000] ^= 1;
    let sum = |reply: &Reply| reply.header("x-oss-hash-crc64ecma").to_owned();
    let on_the_way = put(&server, "way", &body).unwrap().expect(200);
    assert_eq!(sum(&on_the_way), crc64(&harmed).to_string());
    assert!(get(&server, "way").unwrap().expect(200).body == harmed);
    let at_rest = put(&server, "rest", &body).unwrap().expect(200);
    assert_eq!(sum(&at_rest), crc64(&body).to_string());
    assert!(get(&server, "rest").unwrap().expect(200).body == harmed);
    put(&server, "good", &body).unwrap().expect(200);
    let on_the_way_out = get(&server, "good").unwrap().expect(200);
    assert_eq!(sum(&on_the_way_out), crc64(&body).to_string());
    assert!(on_the_way_out.body == harmed);
    assert!(get(&server, "good").unwrap().expect(200).body == body);
}

#[test]
fn a_body_ends_early() {
    let server = with(&["GetObject:#1:short", "GetObject:#2:short,bytes=10"]);
    put(&server, "k", &[7; 1000]).unwrap().expect(200);
    for expected in [500, 10] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(call("GET", "k").head(server.address).as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-length: 1000"), "{head}");
        assert_eq!(body.len(), expected);
    }
}

#[test]
fn complete_answers_200_with_an_error_in_it_before_or_after_it_took_effect() {
    let server = with(&["CompleteMultipartUpload:#1:error-in-200", "CompleteMultipartUpload:#2:error-in-200,done=yes"]);
    let id = initiate(&server, "m");
    let parts = [(1, upload_part(&server, "m", &id, 1, b"part"))];
    let first = complete("m", &id, &parts).send(&server).expect(200);
    assert_eq!(first.element("Code").as_deref(), Some("InternalError"));
    get(&server, "m").unwrap().refused(404, "NoSuchKey");
    let second = complete("m", &id, &parts).send(&server).expect(200);
    assert_eq!(second.element("Code").as_deref(), Some("InternalError"));
    assert_eq!(get(&server, "m").unwrap().expect(200).body, b"part");
}

#[test]
fn documents_are_garbage_or_huge() {
    let server = with(&["ListObjects:#1:garbage-xml", "ListObjects:#2:huge-xml,bytes=5000000"]);
    let list = || call("GET", "").send(&server).expect(200);
    assert!(list().text().contains("<!DOCTYPE"));
    let huge = list();
    assert!(huge.body.len() > 4_900_000 && huge.text().ends_with("</Result>"));
}

#[test]
fn headers_are_huge() {
    let server = with(&["GetObject:always:huge-headers,bytes=100000"]);
    put(&server, "k", b"x").unwrap().expect(200);
    let reply = get(&server, "k").unwrap().expect(200);
    let bytes: usize = reply.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(bytes > 100_000, "{bytes}");
}

#[test]
fn the_clock_is_wrong_by_hours() {
    let server = with(&["any:#1:clock,by=3h", "any:#2:clock,by=-3h"]);
    for hours in [3, -3] {
        let refused = get(&server, "k").unwrap().refused(403, "RequestTimeTooSkewed");
        let date = httpdate::parse_http_date(refused.header("date")).unwrap();
        let now = std::time::SystemTime::now();
        let ahead = date.duration_since(now).map_or_else(|early| -early.duration().as_secs_f64(), |d| d.as_secs_f64());
        assert!((ahead - f64::from(hours) * 3600.0).abs() < 60.0, "{ahead}");
    }
    get(&server, "k").unwrap().refused(404, "NoSuchKey");
}

#[test]
fn an_upload_is_forgotten_and_a_part_is_lost() {
    let server = with(&["ListParts:#1:lose-part", "UploadPart:#4:forget-upload"]);
    let id = initiate(&server, "m");
    let parts = [(1, upload_part(&server, "m", &id, 1, b"1")), (2, upload_part(&server, "m", &id, 2, b"2"))];
    let listed = call("GET", &format!("m?uploadId={id}")).send(&server).expect(200);
    assert!(listed.text().contains("<PartNumber>1</PartNumber>"));
    assert!(!listed.text().contains("<PartNumber>2</PartNumber>"));
    complete("m", &id, &parts).send(&server).refused(400, "InvalidPart");
    upload_part(&server, "m", &id, 2, b"2");
    let forgotten = call("PUT", &format!("m?partNumber=3&uploadId={id}")).body("3").send(&server);
    forgotten.refused(404, "NoSuchUpload");
    complete("m", &id, &parts).send(&server).refused(404, "NoSuchUpload");
}

/// Which of 40 requests were harmed.
fn pattern(server: &Running) -> Vec<bool> {
    (0..40).map(|_| put(server, "k", b"x").unwrap().status == 503).collect()
}

#[test]
fn a_run_can_be_repeated_with_its_seed() {
    let run = |seed| {
        let rules = rules(&["PutObject:40%:error,code=ServiceUnavailable"]);
        pattern(&with_settings(FaultSettings { rules, seed, ..FaultSettings::default() }))
    };
    let first = run(1);
    assert!(first.contains(&true) && first.contains(&false));
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
}

#[test]
fn every_fault_is_noted_in_one_line_of_json() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("faults.log");
    let rules = rules(&["UploadPart:#1:error,code=InternalError", "connect:#3:reset"]);
    let server = with_settings(FaultSettings { rules, log: Some(log.clone()), ..FaultSettings::default() });
    let id = initiate(&server, "a&b");
    let target = format!("a&b?partNumber=7&uploadId={id}");
    let refused = call("PUT", &target).body("x").send(&server).refused(500, "InternalError");
    assert!(put(&server, "k", b"x").is_none());
    let lines: Vec<serde_json::Value> =
        std::fs::read_to_string(&log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["rule"], "UploadPart:#1:error,code=InternalError");
    assert_eq!((lines[0]["operation"].as_str(), lines[0]["key"].as_str()), (Some("UploadPart"), Some("a&b")));
    assert_eq!((lines[0]["part"].as_u64(), lines[0]["upload_id"].as_str()), (Some(7), Some(id.as_str())));
    assert_eq!(lines[0]["request_id"], refused.header("x-oss-request-id"));
    assert_eq!(lines[1]["rule"], "connect:#3:reset");
}

/// Waits until a PUT answers with `status`.
fn wait_for(server: &Running, status: u16) {
    let end = Instant::now() + Duration::from_secs(60);
    while put(server, "k", b"x").unwrap().status != status {
        assert!(Instant::now() < end, "the rules change");
    }
}

#[test]
fn the_rules_follow_their_file_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules");
    let write = |text: &str| {
        let aside = dir.path().join("aside");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(&aside, &file).unwrap();
    };
    write("# nothing yet\n\n");
    let server = with_settings(FaultSettings { file: Some(file.clone()), ..FaultSettings::default() });
    put(&server, "k", b"x").unwrap().expect(200);
    write("# busy\nPutObject:always:error,code=ServiceUnavailable\n");
    wait_for(&server, 503);
    write("PutObject:always:explode\n");
    write("PutObject:always:explode\nthis one is longer\n");
    write("PutObject:always:error,code=InternalError\n");
    wait_for(&server, 500);
    write("");
    wait_for(&server, 200);
}

#[test]
fn a_version_of_the_rules_with_the_length_and_the_time_of_the_one_before_is_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules");
    let write = |text: &str| {
        let aside = dir.path().join("aside");
        std::fs::write(&aside, text).unwrap();
        std::fs::File::open(&aside).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        std::fs::rename(&aside, &file).unwrap();
    };
    write("PutObject:always:error");
    let server = with_settings(FaultSettings { file: Some(file.clone()), ..FaultSettings::default() });
    wait_for(&server, 500);
    write("GetObject:always:error");
    wait_for(&server, 200);
}

#[test]
fn a_file_of_rules_that_is_wrong_at_the_start_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let start = |path: &Path| {
        let mut config = config(StoreKind::Memory);
        config.faults.file = Some(path.to_owned());
        try_start(config).err().unwrap()
    };
    let file = dir.path().join("rules");
    std::fs::write(&file, "\nany:always:explode\n").unwrap();
    let error = start(&file);
    assert!(matches!(error, ServerError::Faults(_)) && error.to_string().contains("line 2"), "{error}");
    assert!(matches!(start(&dir.path().join("none")), ServerError::Faults(_)));
}

#[test]
fn a_test_in_the_same_process_can_change_the_faults() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::bind(config(StoreKind::Memory))).unwrap();
    let (address, faults): (_, Faults) = (server.local_addr(), server.faults());
    runtime.spawn(server.run(std::future::pending()));
    let status = || call("PUT", "k").body("x").try_send(address).unwrap().status;
    assert_eq!(status(), 200);
    faults.replace(rules(&["any:always:error"]));
    assert_eq!(status(), 500);
    faults.replace(Vec::new());
    assert_eq!(status(), 200);
}
