//! `haul put` against a store that misbehaves on demand: the object is right, or the end says why not.

use crate::common::*;

const KIB: usize = 1 << 10;
const PARTS: [&str; 4] = ["--part-size", "100KiB", "--parallel", "3"];

/// Uploads 1,000 KiB in parts of 100 KiB under these rules; the exit code and what was said.
fn under(rules: &[&str]) -> (i32, String, bool) {
    let scratch = tempfile::tempdir().unwrap();
    let options: Vec<&str> = rules.iter().flat_map(|rule| ["--fault", *rule]).chain(["--seed", "5"]).collect();
    let store = Served::start_with(scratch.path(), &options);
    let (file, content) = random_file(scratch.path(), 1000 * KIB, 1);
    let output = put(&file, &store.endpoint, &PARTS).output().unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    (exit_code(&output), said, store.holds(&content))
}

#[test]
fn faults_that_pass_end_in_the_right_object() {
    for rules in [
        &["connect:30%:reset"][..],
        &["connect:#2:refuse,for=500ms"],
        &["UploadPart:20%:reset", "UploadPart:20%:reset-within", "UploadPart:20%:reset-after"],
        &["UploadPart:20%:lose-answer"],
        &["UploadPart:20%:error,code=UploadTrafficRateLimitExceeded,delay-ms=20"],
        &["UploadPart:20%:error,code=RequestTimeout", "UploadPart:20%:error,code=QpsLimitExceeded"],
        &["UploadPart:20%:wrong-crc"],
        &["UploadPart:20%:flip,at=50000"],
        &["UploadPart:20%:garbage-xml", "UploadPart:20%:short"],
        &["UploadPart:#2:huge-headers"],
        &["InitiateMultipartUpload:#1:error", "InitiateMultipartUpload:#2:reset-after"],
        &["CompleteMultipartUpload:#1:lose-answer"],
        &["CompleteMultipartUpload:#1:error", "CompleteMultipartUpload:#2:reset"],
        &["CompleteMultipartUpload:#1:error-in-200"],
        &["CompleteMultipartUpload:#1:error-in-200,done=yes"],
        &["HeadObject:#1:error", "HeadObject:#2:late,by=100ms"],
    ] {
        let (code, said, is_stored) = under(rules);
        assert!(code == 0 && is_stored, "{rules:?}: {code} {said}");
    }
}

#[test]
fn faults_that_stay_end_with_their_exit_code_and_no_object() {
    for (rule, expected) in [
        ("any:always:reset", 7),
        ("UploadPart:always:error,code=ServiceUnavailable", 7),
        ("UploadPart:always:wrong-crc", 6),
        ("UploadPart:always:flip", 6),
        ("any:always:error,code=InvalidAccessKeyId", 4),
        ("any:always:error,code=SecurityTokenExpired", 4),
        ("UploadPart:always:error,code=AccessDenied", 4),
        ("any:always:error,code=NoSuchBucket", 5),
        ("InitiateMultipartUpload:always:huge-xml,bytes=100000000", 7),
    ] {
        let (code, said, is_stored) = under(&[rule]);
        assert!(code == expected && !is_stored, "{rule}: {code} {said}");
    }
}

#[test]
fn a_run_under_faults_goes_on_where_it_ended() {
    let scratch = tempfile::tempdir().unwrap();
    let rules = scratch.path().join("rules");
    std::fs::write(&rules, "UploadPart:always:reset,part=7\n").unwrap();
    let store = Served::start_with(scratch.path(), &["--fault-file", rules.to_str().unwrap()]);
    let (file, content) = random_file(scratch.path(), 1000 * KIB, 1);
    let first = put(&file, &store.endpoint, &PARTS).output().unwrap();
    assert_eq!(exit_code(&first), 7);
    let before = parts_sent(&json_lines(&first.stdout));
    std::fs::write(&rules, "# well again\n").unwrap();
    // The rules are read again within moments; until then a run ends as the first did.
    let events = loop {
        let output = put(&file, &store.endpoint, &PARTS).output().unwrap();
        let events = json_lines(&output.stdout);
        assert!(parts_sent(&events).is_disjoint(&before), "what was confirmed is not sent again");
        if output.status.success() {
            break events;
        }
    };
    assert!(parts_sent(&events).contains(&7));
    assert!(store.holds(&content));
}
