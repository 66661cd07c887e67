//! What a user relies on when everything goes well, and what bad input gets.

use crate::common::*;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

#[test]
fn every_reader_signature_and_part_size_stores_the_same_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    for (i, (reader, signature, part)) in [
        ("mmap", "v4", "256KiB"),
        ("uring", "v1", "256KiB"),
        ("pread", "v4", "256KiB"),
        ("mmap", "v1", "1MiB"),
        ("uring", "v4", "1MiB"),
        ("pread", "v1", "1MiB"),
        ("auto", "v4", "100KiB"),
        ("auto", "v4", "5GiB"),
    ]
    .into_iter()
    .enumerate()
    {
        let (file, content) = random_file(scratch.path(), 5 * MIB + 12_345, i as u64);
        let options = ["--reader", reader, "--signature", signature, "--part-size", part];
        let events = put_well(&file, &store.endpoint, &options);
        assert!(store.holds(&content), "{options:?}");
        let done = events.last().unwrap();
        assert_eq!(done["event"], "done");
        assert_eq!(done["bytes"], content.len());
        assert_eq!(done["verified"], true);
        assert_eq!(done["crc64"], haul::model::crc64::crc64(&content).to_string());
        if reader != "auto" {
            assert_eq!(done["reader"], reader);
        }
        assert!(!file.with_added_extension("cp").exists(), "the checkpoint is gone after success");
    }
    assert_eq!(store.open_uploads().len(), 0);
}

#[test]
fn https_is_verified_against_the_named_authority_and_refused_without_it() {
    let scratch = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let (cert, key) = (scratch.path().join("cert.pem"), scratch.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let store = Served::start_with(scratch.path(), &tls);
    assert!(store.endpoint.starts_with("https://"), "{}", store.endpoint);
    let (file, content) = random_file(scratch.path(), 3 * MIB + 1, 7);

    for signature in ["v4", "v1"] {
        let options = ["--part-size", "256KiB", "--signature", signature, "--ca-cert", cert.to_str().unwrap()];
        put_well(&file, &store.endpoint, &options);
        assert!(store.holds(&content));
    }
    let refused = put(&file, &store.endpoint, &["--part-size", "256KiB"]).output().unwrap();
    assert_eq!(exit_code(&refused), 4);
    assert!(text(&refused.stderr).contains("certificate") && text(&refused.stderr).contains("--ca-cert"));
}

#[test]
fn empty_files_and_files_smaller_than_a_part_go_in_one_put() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    for reader in ["auto", "mmap", "uring", "pread"] {
        for bytes in [0, 1, 100 * KIB - 1] {
            let (file, content) = random_file(scratch.path(), bytes, bytes as u64);
            let events = put_well(&file, &store.endpoint, &["--part-size", "100KiB", "--reader", reader]);
            let done = events.last().unwrap();
            assert_eq!(done["parts_sent"], 0, "{reader} {bytes}");
            assert_eq!(done["verified"], true);
            let stat = store.stat("object");
            assert_eq!(stat["bytes"], bytes);
            assert!(store.holds(&content));
        }
    }
}

#[test]
fn what_is_said_about_an_object_is_stored_with_it() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    for bytes in [10, 300 * KIB] {
        let (file, _) = random_file(scratch.path(), bytes, 1);
        let options = [
            ["--part-size", "100KiB"],
            ["--content-type", "text/x-haul"],
            ["--cache-control", "no-store"],
            ["--content-disposition", "attachment"],
            ["--meta", "Origin=rack 7"],
            ["--storage-class", "IA"],
            ["--tag", "a=b c"],
            ["--acl", "private"],
        ];
        put_well(&file, &store.endpoint, options.as_flattened());
        let stat = store.stat("object");
        assert_eq!(stat["content_type"], "text/x-haul");
        assert_eq!(stat["storage_class"], "IA");
        assert_eq!(stat["metadata"]["origin"], "rack 7", "{stat}");
    }
}

#[test]
fn forbid_overwrite_keeps_the_object_that_is_there() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (first, content) = random_file(scratch.path(), 300 * KIB, 1);
    let (second, _) = random_file(scratch.path(), 300 * KIB, 2);
    put_well(&first, &store.endpoint, &["--part-size", "100KiB"]);
    let output = put(&second, &store.endpoint, &["--part-size", "100KiB", "--forbid-overwrite"]).output().unwrap();
    assert_eq!(exit_code(&output), 5, "{}", text(&output.stderr));
    assert!(store.holds(&content));
}

#[test]
fn a_wrong_secret_ends_with_4_and_is_not_shown() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, _) = random_file(scratch.path(), 300 * KIB, 1);
    for signature in ["v4", "v1"] {
        let output = put(&file, &store.endpoint, &["--part-size", "100KiB", "--signature", signature, "-v"])
            .env("OSS_ACCESS_KEY_SECRET", "not-the-canary-secret")
            .output()
            .unwrap();
        assert_eq!(exit_code(&output), 4, "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("SignatureDoesNotMatch"), "{}", text(&output.stderr));
        assert!(!format!("{}{}", text(&output.stderr), text(&output.stdout)).contains("canary"));
    }
}

#[test]
fn a_temporary_key_uploads_with_its_token_and_not_without() {
    let scratch = tempfile::tempdir().unwrap();
    let mut serve = haul();
    serve.env("OSS_SESSION_TOKEN", "token-0123");
    let store = Served::start_as(serve, scratch.path(), &[]);
    let (file, content) = random_file(scratch.path(), 300 * KIB, 1);
    for signature in ["v4", "v1"] {
        let upload = |token: Option<&str>| {
            let mut put = put(&file, &store.endpoint, &["--part-size", "100KiB", "--signature", signature]);
            put.envs(token.map(|token| ("OSS_SESSION_TOKEN", token))).output().unwrap()
        };
        for wrong in [None, Some("another")] {
            let output = upload(wrong);
            assert_eq!(exit_code(&output), 4, "{}", text(&output.stderr));
            assert!(!text(&output.stderr).contains("token-0123"));
        }
        assert_eq!(exit_code(&upload(Some("token-0123"))), 0);
        assert!(store.holds(&content));
    }
}

#[test]
fn missing_things_are_named_and_have_their_exit_codes() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, _) = random_file(scratch.path(), 300 * KIB, 1);
    let missing = put(&scratch.path().join("nowhere"), &store.endpoint, &[]).output().unwrap();
    assert_eq!(exit_code(&missing), 3);
    let directory = put(scratch.path(), &store.endpoint, &[]).output().unwrap();
    assert_eq!(exit_code(&directory), 3);
    assert!(text(&directory.stderr).contains("directory"));
    let bucket = haul()
        .arg("put")
        .arg(&file)
        .args(["oss://no-such-bucket/k", "--endpoint", &store.endpoint, "--region", "cn-hangzhou"])
        .output()
        .unwrap();
    assert_eq!(exit_code(&bucket), 5);
    assert!(text(&bucket.stderr).contains("NoSuchBucket"));
    // A port that was just given back has nobody listening.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = put(&file, &format!("http://{free}"), &["--part-size", "100KiB"]).output().unwrap();
    assert_eq!(exit_code(&unreachable), 7, "{}", text(&unreachable.stderr));
}

#[test]
fn an_unwritable_checkpoint_is_an_error_before_anything_is_sent() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 300 * KIB, 1);
    let nowhere = scratch.path().join("no/such/directory/x.cp");
    let options = ["--part-size", "100KiB", "--checkpoint", nowhere.to_str().unwrap()];
    let output = put(&file, &store.endpoint, &options).output().unwrap();
    assert_eq!(exit_code(&output), 8);
    assert!(text(&output.stderr).contains("--no-checkpoint"), "{}", text(&output.stderr));
    assert_eq!(store.open_uploads().len(), 0);
    assert!(!store.holds(&content));
}

#[test]
fn a_dry_run_prints_the_plan_and_sends_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let (file, _) = random_file(scratch.path(), 5 * MIB, 1);
    let output = put(&file, "http://127.0.0.1:9", &["--dry-run", "--part-size", "1MiB"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains('5'), "{}", text(&output.stdout));
    assert!(!file.with_added_extension("cp").exists());
}

#[test]
fn verify_tells_an_equal_object_from_another() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, _) = random_file(scratch.path(), 300 * KIB, 1);
    let (other, _) = random_file(scratch.path(), 300 * KIB, 2);
    put_well(&file, &store.endpoint, &["--part-size", "100KiB"]);
    let verify = |path: &std::path::Path| {
        let url = "oss://demo/object";
        let options = [url, "--endpoint", &store.endpoint, "--region", "cn-hangzhou"];
        exit_code(&haul().arg("verify").arg(path).args(options).output().unwrap())
    };
    assert_eq!(verify(&file), 0);
    assert_eq!(verify(&other), 6);
}

#[test]
fn the_local_endpoint_needs_no_key_and_keeps_its_objects() {
    let scratch = tempfile::tempdir().unwrap();
    let (file, _) = random_file(scratch.path(), 3 * MIB, 1);
    let endpoint = format!("local:{}", scratch.path().join("here").display());
    for _ in 0..2 {
        let run = |arguments: &[&str]| {
            haul()
                .args(arguments)
                .args(["--endpoint", &endpoint])
                .env_remove("OSS_ACCESS_KEY_ID")
                .env_remove("OSS_ACCESS_KEY_SECRET")
                .output()
                .unwrap()
        };
        let output = run(&["put", file.to_str().unwrap(), "oss://demo/dir/", "--part-size", "1MiB"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let name = file.file_name().unwrap().to_str().unwrap();
        let output = run(&["verify", file.to_str().unwrap(), &format!("oss://demo/dir/{name}")]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

#[test]
fn any_number_of_parts_in_flight_and_any_part_size_store_the_same_object() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 510_598, 3);
    for (parallel, part_size, parts) in [("1", "100KiB", 5), ("5", "100KiB", 5), ("10", "200KiB", 3), ("3", "10MiB", 0)]
    {
        let events = put_well(&file, &store.endpoint, &["--parallel", parallel, "--part-size", part_size]);
        assert_eq!(events.last().unwrap()["parts_sent"], parts, "{parallel} {part_size}");
        assert_eq!(store.stat("object")["bytes"], content.len());
        assert!(store.holds(&content));
    }
}

#[test]
fn the_type_of_the_content_follows_the_name_of_the_object() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, _) = random_file(scratch.path(), 300 * KIB, 1);
    let film = scratch.path().join("film.ts");
    std::fs::rename(file, &film).unwrap();
    let endpoint = ["--endpoint", &store.endpoint, "--region", "cn-hangzhou", "--part-size", "100KiB"];
    let output = haul().arg("put").arg(&film).arg("oss://demo/").args(endpoint).output().unwrap();
    assert_eq!(exit_code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(store.stat("film.ts")["content_type"], "video/MP2T");
}

/// An application that answers each callback with the next of `answers`; gives what it was told.
fn application(answers: Vec<&'static str>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serve = move || {
        let tell = |answer: &str| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(b"!") {
                let mut chunk = [0; 1024];
                let bytes = stream.read(&mut chunk).unwrap();
                heard.extend_from_slice(&chunk[..bytes]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            text(&heard).rsplit("\r\n").next().unwrap().to_owned()
        };
        answers.into_iter().map(tell).collect()
    };
    (url, std::thread::spawn(serve))
}

#[test]
fn a_callback_is_made_with_and_without_a_checkpoint_and_its_answer_or_failure_is_told() {
    const WELL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"Status\":\"OK\"}";
    const ILL: &str = "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n";
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (url, told) = application(vec![WELL, WELL, ILL]);
    let callback = format!("{{\"callbackUrl\":\"{url}\",\"callbackBody\":\"${{object}} ${{size}} ${{x:job}}!\"}}");
    let options = ["--part-size", "100KiB", "--callback", &callback, "--callback-var", r#"{"x:job":"7"}"#];
    let (file, content) = random_file(scratch.path(), 300 * KIB, 1);
    for checkpoint in [&["--no-checkpoint"][..], &[]] {
        let events = put_well(&file, &store.endpoint, &[&options[..], checkpoint].concat());
        assert_eq!(events.last().unwrap()["callback_body"], r#"{"Status":"OK"}"#);
    }
    let events = put_well(&file, &store.endpoint, &options);
    assert_eq!(events.last().unwrap()["status"], 203, "{:?}", events.last());
    assert_eq!(told.join().unwrap(), ["object 307200 7!"; 3]);
    assert!(store.holds(&content));
}
