//! A bit that flips anywhere between disk and store is caught, and the message says where, with both checksums, and what
//! to suspect. What an upload leaves behind for later: the receipt.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Output;

use crate::common::*;
use haul::model::crc64::crc64;
use haul::model::receipt::Receipt;

const KIB: usize = 1 << 10;
const PARTS: [&str; 2] = ["--part-size", "100KiB"];

/// Uploads 350 KiB under a rule; gives the exit code, what was said, and the content.
fn under(rule: &str, options: &[&str]) -> (i32, String, Vec<u8>) {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_with(scratch.path(), &["--fault", rule]);
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let output = put(&file, &store.endpoint, options).output().unwrap();
    (exit_code(&output), text(&output.stderr), content)
}

/// The store flips the bit before it takes its checksum, so this is what any place behind the client's checksum does:
/// the client's memory, its network card, the network, the store's memory.
#[test]
fn a_bit_that_flips_behind_the_checksum_names_the_part_both_checksums_and_the_suspects() {
    for at in [0, 51_200, 102_399] {
        let (code, said, content) = under(&format!("UploadPart:always:flip,part=3,at={at}"), &PARTS);
        let part = &content[200 * KIB..300 * KIB];
        let mut flipped = part.to_vec();
        assert_eq!(code, 6, "{said}");
        assert!(said.contains("part 3") && said.contains(&format!("{:016x}", crc64(part))), "{said}");
        assert!(said.contains("memory, network card, network"), "{said}");
        let received = said.split("received ").nth(1).unwrap().split_whitespace().next().unwrap();
        let is_it = (0..8).any(|bit| {
            flipped[at] = part[at] ^ (1 << bit);
            format!("{:016x}", crc64(&flipped)) == received
        });
        assert!(is_it, "the second checksum is that of the flipped part: {said}");
    }
}

#[test]
fn a_wrong_checksum_in_the_answer_to_a_part_is_not_believed() {
    let (code, said, _) = under("UploadPart:always:wrong-crc,part=2", &PARTS);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("part 2") && said.contains("checkpoint is kept"), "{said}");
}

#[test]
fn good_parts_and_a_wrong_object_make_the_store_the_suspect() {
    let (code, said, content) = under("CompleteMultipartUpload:always:wrong-crc", &PARTS);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains(&format!("{:016x}", crc64(&content))), "{said}");
    assert!(said.contains("confirmed the checksum of every part") && said.contains("suspect the store"), "{said}");
}

#[test]
fn a_bit_that_flips_in_a_single_put_is_caught_too() {
    let (code, said, content) = under("PutObject:always:flip,at=7", &["--part-size", "1MiB"]);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains(&format!("{:016x}", crc64(&content))) && said.contains("network card"), "{said}");
}

fn verify(file: &Path, receipt: &Path) -> Output {
    // No key and no endpoint: nothing may be asked of anybody.
    let mut verify = haul();
    verify.env_remove("OSS_ACCESS_KEY_ID").env_remove("OSS_ACCESS_KEY_SECRET");
    verify.arg("verify").arg(file).arg("--receipt").arg(receipt).output().unwrap()
}

#[test]
fn a_receipt_says_what_was_stored_and_judges_the_file_without_the_store() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let path = scratch.path().join("receipt.json");
    let place = path.to_str().unwrap();
    for (options, parts) in
        [(["--part-size", "100KiB", "--receipt", place], 4), (["--part-size", "1MiB", "--receipt", place], 0)]
    {
        let done = put_well(&file, &store.endpoint, &options).pop().unwrap();
        let json = std::fs::read(&path).unwrap();
        assert!(!text(&json).contains(SECRET));
        let receipt = Receipt::from_json(&json).unwrap();
        assert_eq!((receipt.url.as_str(), receipt.endpoint.as_str()), ("oss://demo/object", store.endpoint.as_str()));
        assert_eq!((receipt.bytes, receipt.crc64), (content.len() as u64, crc64(&content)));
        assert_eq!(receipt.etag.as_str(), done["etag"]);
        assert_eq!(receipt.request_id.as_deref(), done["request_id"].as_str());
        assert_eq!(receipt.source.path, file.to_str().unwrap());
        assert_eq!(receipt.parts.len(), parts);
        for part in &receipt.parts {
            let range = part.offset as usize..(part.offset + part.bytes) as usize;
            assert_eq!(part.crc64, crc64(&content[range]));
            assert!(part.sent && part.request_id.is_some() && !part.etag.as_str().is_empty(), "{part:?}");
        }
        let equal = verify(&file, &path);
        assert_eq!(exit_code(&equal), 0, "{}", text(&equal.stderr));

        let byte = [content[250 * KIB] ^ 1];
        std::fs::File::options().write(true).open(&file).unwrap().write_all_at(&byte, 250 * KIB as u64).unwrap();
        let differs = verify(&file, &path);
        let said = text(&differs.stderr);
        assert_eq!(exit_code(&differs), 6, "{said}");
        assert!(said.contains(if parts == 0 { "the whole" } else { "part 3 (from byte 204800)" }), "{said}");
        std::fs::write(&file, &content[1..]).unwrap();
        assert_eq!(exit_code(&verify(&file, &path)), 6);
        std::fs::write(&file, &content).unwrap();
    }
    std::fs::write(&path, "{}").unwrap();
    assert_eq!(exit_code(&verify(&file, &path)), 2, "no receipt");
    let aside = std::fs::read_dir(scratch.path())
        .unwrap()
        .flatten()
        .filter(|e| text(e.file_name().as_encoded_bytes()).ends_with(".new"));
    assert_eq!(aside.count(), 0, "nothing is left beside the receipt");
}

#[test]
fn a_receipt_tells_parts_of_this_run_from_those_of_an_earlier_one() {
    let scratch = tempfile::tempdir().unwrap();
    let rules = scratch.path().join("rules");
    std::fs::write(&rules, "UploadPart:always:error,code=AccessDenied,part=3\n").unwrap();
    let store = Served::start_with(scratch.path(), &["--fault-file", rules.to_str().unwrap()]);
    let (file, _) = random_file(scratch.path(), 350 * KIB, 1);
    let path = scratch.path().join("receipt.json");
    let options = [&PARTS[..], &["--parallel", "1", "--receipt", path.to_str().unwrap()]].concat();
    assert_eq!(exit_code(&put(&file, &store.endpoint, &options).output().unwrap()), 4);
    assert!(!path.exists(), "a failed upload has no receipt");
    std::fs::write(&rules, "# well again\n").unwrap();
    // The rules are read again within moments; until then a run ends as the first did.
    while !put(&file, &store.endpoint, &options).output().unwrap().status.success() {}
    let receipt = Receipt::from_json(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(receipt.parts.iter().map(|p| p.sent).collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!(exit_code(&verify(&file, &path)), 0);
}

#[test]
fn a_receipt_that_cannot_be_written_is_an_error_before_anything_is_sent() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    for place in [scratch.path().join("no/such/directory/r.json"), scratch.path().to_owned()] {
        let options = [&PARTS[..], &["--receipt", place.to_str().unwrap()]].concat();
        let output = put(&file, &store.endpoint, &options).output().unwrap();
        assert_eq!(exit_code(&output), 8, "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("receipt"), "{}", text(&output.stderr));
        assert!(!store.holds(&content) && store.open_uploads().is_empty());
    }
}

#[test]
fn a_good_disk_gives_the_same_bytes_again() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    for (reader, part_size) in [("mmap", "100KiB"), ("uring", "100KiB"), ("pread", "1MiB")] {
        let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
        let options = ["--part-size", part_size, "--reader", reader, "--verify-reread"];
        let events = put_well(&file, &store.endpoint, &options);
        assert_eq!(named(&events, "rereading")[0]["bytes"], content.len(), "{reader}");
        assert!(store.holds(&content));
    }
}
