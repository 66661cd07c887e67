//! Unfinished uploads: what is odd among them is shown and left alone, and what was not aborted is not called so.

use std::process::Output;

use crate::common::canned::{canned, http};
use crate::common::*;

fn uploads(verb: &str, url: &str, endpoint: &str, options: &[&str]) -> (i32, String, String) {
    let mut command = haul();
    command.args(["uploads", verb, url, "--endpoint", endpoint, "--region", "cn-hangzhou", "--attempts", "2"]);
    let output: Output = command.args(options).output().unwrap();
    (exit_code(&output), text(&output.stdout), text(&output.stderr))
}

/// An upload that is in progress at a served store: its id.
fn begun(store: &Served, directory: &std::path::Path) -> String {
    let (file, _) = random_file(directory, 300 << 10, 1);
    let output = put(&file, &store.endpoint, &["--part-size", "100KiB", "--attempts", "1"]).output().unwrap();
    assert!(!output.status.success());
    store.open_uploads()[0]["upload_id"].as_str().unwrap().to_owned()
}

#[test]
fn an_upload_that_is_not_there_is_not_called_aborted() {
    let scratch = tempfile::tempdir().unwrap();
    let store =
        Served::start_with(scratch.path(), &["--fault", "CompleteMultipartUpload:always:error,code=InternalError"]);
    let id = begun(&store, scratch.path());
    for wrong in ["", " ", "a\nb", &"U".repeat(1025)] {
        let (code, out, _) = uploads("abort", "oss://demo/object", &store.endpoint, &["--upload-id", wrong]);
        assert_eq!((code, &*out), (2, ""), "{wrong:?}");
    }
    for (url, id) in [("oss://demo/object", "WRONG"), ("oss://demo/other", &id)] {
        let (code, out, said) = uploads("abort", url, &store.endpoint, &["--upload-id", id]);
        assert!(code == 5 && out.is_empty() && said.contains("no such upload"), "{code} {out}{said}");
    }
    let (code, out, _) = uploads("abort", "oss://demo/object", &store.endpoint, &["--upload-id", &id]);
    assert!(code == 0 && out.contains("aborted"), "{code} {out}");
    let (code, _, said) = uploads("abort", "oss://demo/object", &store.endpoint, &["--upload-id", &id]);
    assert!(code == 5 && said.contains("no such upload"), "the second time: {code} {said}");
}

/// A page of uploads, and a store that has aborted all but that of `gone` and will not abort that of `kept`.
fn odd_store() -> String {
    let upload = |(key, id, begun): &(&str, &str, &str)| {
        format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{begun}</Initiated></Upload>")
    };
    let (old, long) = ("2020-01-01T00:00:00.000Z", "k".repeat(1100));
    let entries = [
        ("%2Fodd", "U1", old),
        ("a%FF", "U2", old),
        (&long, "U3", old),
        ("odd-id", "&#27;[2J", old),
        ("kept", "U4", old),
        ("gone", "U5", old),
        ("undated", "U6", "some day"),
        ("young", "U7", "9999-01-01T00:00:00.000Z"),
        ("%2Fyoung", "U8", "9999-01-01T00:00:00.000Z"),
        ("good%1B", "U9", old),
    ];
    let page = format!("<R><EncodingType>url</EncodingType>{}</R>", entries.iter().map(upload).collect::<String>());
    let error = |code| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
    let (address, _) = canned(move |head| match head {
        head if head.starts_with("GET ") => http("200 OK", "", &page),
        head if head.contains("/kept?") => http("403 Forbidden", "", &error("AccessDenied")),
        head if head.contains("/gone?") => http("404 Not Found", "", &error("NoSuchUpload")),
        _ => http("204 No Content", "", ""),
    });
    format!("http://{address}")
}

#[test]
fn an_odd_entry_hides_no_other() {
    let endpoint = odd_store();
    let (code, out, said) = uploads("list", "oss://demo", &endpoint, &[]);
    assert_eq!((code, out.lines().count()), (0, 10), "{out}{said}");
    for shown in
        ["U1  oss://demo//odd", "U2  oss://demo/a%FF", "\\u001b[2J  oss://demo/odd-id", "U9  oss://demo/good\\u001b"]
    {
        assert!(out.contains(shown), "{shown}: {out}");
    }
    assert!(!out.contains('\u{1b}'));
    let (code, out, _) = uploads("list", "oss://demo", &endpoint, &["--json"]);
    let odd: Vec<_> = json_lines(out.as_bytes()).iter().map(|upload| upload["odd"].as_bool().unwrap()).collect();
    assert_eq!((code, odd), (0, vec![true, true, true, true, false, false, false, false, true, false]));
}

#[test]
fn those_that_cannot_be_asked_for_are_skipped_and_what_is_refused_keeps_no_other() {
    let (code, out, said) = uploads("abort", "oss://demo", &odd_store(), &["--older-than", "7d"]);
    assert_eq!(code, 4, "what the store refused of one: {out}{said}");
    let done: Vec<_> = out.lines().collect();
    assert_eq!(done, ["was gone already: U5 of oss://demo/gone", "aborted U9 of oss://demo/good\\u001b"], "{said}");
    for skipped in [
        "U1 of oss://demo//odd is skipped",
        "a%FF is skipped",
        "odd-id is skipped",
        "U6 of oss://demo/undated is skipped",
    ] {
        assert!(said.contains(skipped), "{skipped}: {said}");
    }
    assert!(said.contains("U4 of oss://demo/kept was not aborted") && !said.contains("young"), "{said}");
}
