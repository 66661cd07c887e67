//! From the bytes of a log to the checkpoint of this transfer: what is readable, and whether it belongs here.
//!
//! Damage may hit any frame. What names an upload therefore stands in the log twice, in the snapshot and in a record, or in
//! two records, and is taken from whatever frame is whole: no upload with parts is forgotten.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::journal::Found;
use super::record::{self, NotDecoded};
use super::wal::{dir, frame};
use super::{Binding, Checkpoint, CheckpointError, Claims, Inspection, Record};
use crate::model::object::{Description, Fingerprint, UploadId};

/// Most uploads that are remembered because they may have to be aborted; every run adds one at most.
const ABANDONED_MAX: usize = 1000;

/// Largest snapshot that is taken over, in bytes: binding it to another transfer adds less than a record has.
const SNAPSHOT_BYTES_MAX: usize = frame::PAYLOAD_BYTES_MAX - record::RECORD_BYTES_MAX;

/// Bytes from which a log is known by its magic.
const HEAD_BYTES: usize = frame::HEADER_BYTES + record::MAGIC.len();

/// Whether a file that begins so was meant to be a checkpoint, be it damaged or not. One bit of the magic may be wrong: no
/// single flipped bit makes a stranger of it.
pub fn has_magic(head: &[u8]) -> bool {
    let Some(found) = head.get(frame::HEADER_BYTES..HEAD_BYTES) else { return false };
    let wrong: u32 = found.iter().zip(record::MAGIC).map(|(found, wanted)| (found ^ wanted).count_ones()).sum();
    wrong <= 1
}

/// Folds a log: the snapshot, then every record of the valid prefix.
pub fn fold(bytes: &[u8]) -> Result<Inspection, NotDecoded> {
    if !has_magic(bytes) {
        return Err(NotDecoded::Foreign);
    }
    let (payloads, valid) = frame::scan(bytes);
    let (snapshot, records) = payloads.split_first().ok_or(NotDecoded::Damaged)?;
    let mut checkpoint = record::decode_snapshot(snapshot)?;
    let mut used = frame::HEADER_BYTES + snapshot.len();
    for payload in records {
        let Some(record) = record::decode_record(payload) else { break };
        checkpoint.apply(record);
        if checkpoint.abandoned.len() > ABANDONED_MAX {
            return Err(NotDecoded::Damaged);
        }
        used += frame::HEADER_BYTES + payload.len();
    }
    debug_assert!(used <= valid);
    if !take_uploads(&mut checkpoint, &bytes[used..]) || !is_credible(&checkpoint) {
        return Err(NotDecoded::Damaged);
    }
    Ok(Inspection { checkpoint, torn_bytes: (bytes.len() - used) as u64 })
}

/// Takes in what whole frames anywhere in `rest` say of uploads. False if that is more than we would have written.
fn take_uploads(checkpoint: &mut Checkpoint, rest: &[u8]) -> bool {
    for record in frame::resync(rest).into_iter().filter_map(record::decode_record) {
        let ends_upload = matches!(record, Record::UploadGone | Record::AbandonedAborted(_));
        if record.names_upload() || ends_upload {
            checkpoint.apply(record);
        }
        if checkpoint.abandoned.len() > ABANDONED_MAX {
            return false;
        }
    }
    true
}

/// A new checkpoint that has every upload to abort which a log names whose snapshot is damaged.
fn salvage(bytes: &[u8], binding: Binding) -> (Checkpoint, Found) {
    let mut left = Checkpoint::new(binding.clone());
    let taken = take_uploads(&mut left, bytes);
    left.abandoned.extend(left.open_upload());
    let new = Checkpoint { abandoned: left.abandoned, ..Checkpoint::new(binding.clone()) };
    if taken && !new.abandoned.is_empty() && is_credible(&new) {
        return (new, Found::StartedOver { reason: "the checkpoint is damaged".to_owned() });
    }
    let Binding { bucket, key, .. } = &binding;
    let reason = format!(
        "the checkpoint is damaged and does not say which upload it was for; if one was begun it is still open: \
         `haul uploads list oss://{bucket}/{key}` shows it"
    );
    (Checkpoint::new(binding), Found::StartedOver { reason })
}

/// Whether we may have written it: what a store names was believed before it was recorded, and it can be written again.
fn is_credible(checkpoint: &Checkpoint) -> bool {
    upload_ids(checkpoint).all(UploadId::is_credible)
        && checkpoint.completed.as_ref().is_none_or(|done| done.etag.is_credible() || done.status != 200)
        && checkpoint.parts.values().all(|part| part.etag.is_credible())
        && record::encode_snapshot(checkpoint).len() <= SNAPSHOT_BYTES_MAX
}

fn upload_ids(checkpoint: &Checkpoint) -> impl Iterator<Item = &UploadId> {
    checkpoint.upload_id.iter().chain(checkpoint.abandoned.iter().map(|open| &open.upload_id))
}

/// The checkpoint to go on with, given what stands at its place.
///
/// # Errors
/// The version of a log that a later program wrote.
pub fn resume(bytes: Option<&[u8]>, binding: Binding) -> Result<(Checkpoint, Found), u32> {
    let Some(bytes) = bytes.filter(|b| !b.is_empty()) else { return Ok((Checkpoint::new(binding), Found::Nothing)) };
    let started_over = |why: &str| Found::StartedOver { reason: why.to_owned() };
    match fold(bytes) {
        Ok(Inspection { checkpoint, .. }) => Ok(bind(checkpoint, binding)),
        Err(NotDecoded::Version(version)) => Err(version),
        Err(NotDecoded::Foreign) => {
            Ok((Checkpoint::new(binding), started_over("what stood there is not a checkpoint of haul")))
        }
        Err(NotDecoded::Damaged) => Ok(salvage(bytes, binding)),
    }
}

/// Keeps `old` if it belongs to `binding`, and its upload if only the identity of the file changed; else a new one that
/// remembers every upload of the old one.
fn bind(old: Checkpoint, binding: Binding) -> (Checkpoint, Found) {
    let open = old.open_upload();
    let mut new = Checkpoint { abandoned: old.abandoned, ..Checkpoint::new(binding) };
    let Some(upload_id) = old.upload_id else { return (new, Found::Nothing) };
    if let Some(reason) = difference(&old.binding, &new.binding) {
        new.abandoned.extend(open);
        return (new, Found::StartedOver { reason });
    }
    new.upload_id = Some(upload_id);
    (new.completing, new.completed) = (old.completing, old.completed);
    let moved = identity_difference(&old.binding.source, &new.binding.source);
    if let Some(completed) = &mut new.completed {
        completed.claimed |= moved.is_some();
        if completed.claimed {
            let why =
                moved.unwrap_or("the file was not compared with what is stored since it was another one").to_owned();
            let claims = Claims { why, parts: old.parts.clone() };
            return (Checkpoint { parts: old.parts, ..new }, Found::Moved(claims));
        }
    }
    match moved {
        // A recorded part is always one of the file that the log is bound to.
        Some(why) => (new, Found::Moved(Claims { why: why.to_owned(), parts: old.parts })),
        None => (Checkpoint { parts: old.parts, ..new }, Found::Resumed),
    }
}

/// Says why a checkpoint of `old` is not one of `new`, or `None` if it may be: see [`identity_difference`].
fn difference(old: &Binding, new: &Binding) -> Option<String> {
    if (&old.bucket, &old.key) != (&new.bucket, &new.key) {
        return Some(format!("the checkpoint belongs to oss://{}/{}", old.bucket, old.key));
    }
    if old.endpoint != new.endpoint {
        return Some(format!("the checkpoint belongs to the endpoint {}", old.endpoint));
    }
    if old.source.bytes != new.source.bytes {
        let (was, is) = (old.source.bytes, new.source.bytes);
        return Some(format!("the file changed: it was {was} bytes, it is {is} now"));
    }
    if old.source.mtime_ns != new.source.mtime_ns {
        return Some("the file changed: it was written since, or replaced by another of the same length".to_owned());
    }
    if old.part_bytes != new.part_bytes {
        return Some(format!("the part size was {} bytes, it is {} now", old.part_bytes, new.part_bytes));
    }
    match (&old.description, &new.description) {
        (Some(old), Some(new)) => described_otherwise(old, new),
        _ => Some("an earlier haul wrote the checkpoint and did not record what the object was to be".to_owned()),
    }
}

/// Says what of two descriptions differs, or `None` if they are the same.
pub(crate) fn described_otherwise(old: &Description, new: &Description) -> Option<String> {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name)).collect();
    let names: Vec<_> = names.into_iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| format!("the object was to be described otherwise: {}", names.join(", ")))
}

/// What a copy, a move to another disk, a backup that is restored or a `chmod` changes, and a change of content that
/// hides its time as well.
fn identity_difference(old: &Fingerprint, new: &Fingerprint) -> Option<&'static str> {
    if (old.device, old.inode) != (new.device, new.inode) {
        return Some("the file is not the same one, but of the same length and time");
    }
    (old.ctime_ns != new.ctime_ns).then_some("the file's name or metadata was changed since")
}

/// See [`super::is_one`].
pub fn is_one(path: &Path) -> bool {
    dir::head(path).is_ok_and(|head| head.is_some_and(|head| has_magic(&head.first)))
}

/// See [`super::read`].
pub fn inspect(path: &Path) -> Result<Inspection, CheckpointError> {
    let unreadable = |cause| CheckpointError::Unreadable { path: path.to_owned(), cause: Arc::new(cause) };
    let not_ours = |why: &str| CheckpointError::NotOurs { path: path.to_owned(), why: why.to_owned() };
    let missing = || unreadable(std::io::ErrorKind::NotFound.into());
    let head = dir::head(path).map_err(unreadable)?.ok_or_else(missing)?;
    if !has_magic(&head.first) || head.bytes > dir::FILE_BYTES_MAX {
        return Err(not_ours("it holds something else"));
    }
    let bytes = dir::read(path).map_err(unreadable)?.ok_or_else(missing)?;
    fold(&bytes).map_err(|why| match why {
        NotDecoded::Version(found) => later_format(path, found),
        NotDecoded::Foreign | NotDecoded::Damaged => not_ours("its beginning is damaged"),
    })
}

pub fn later_format(path: &Path, found: u32) -> CheckpointError {
    CheckpointError::LaterFormat { path: path.to_owned(), found, ours: record::VERSION }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{completed, part, sample};
    use super::super::{OpenUpload, StoredPart};
    use super::*;
    use crate::model::object::{Bucket, ETag};
    use crate::model::part::PartNumber;

    fn log_of(checkpoint: &Checkpoint) -> Vec<u8> {
        let mut log = Vec::new();
        frame::push(&mut log, &record::encode_snapshot(checkpoint));
        log
    }

    fn reason_for(change: impl FnOnce(&mut Binding)) -> String {
        let old = sample();
        let mut binding = old.binding.clone();
        change(&mut binding);
        let (new, found) = resume(Some(&log_of(&old)), binding.clone()).unwrap();
        assert_eq!((&new.binding, new.upload_id.as_ref()), (&binding, None));
        assert_eq!(new.abandoned, [old.open_upload().unwrap()]);
        let Found::StartedOver { reason } = found else { panic!("{found:?}") };
        reason
    }

    #[test]
    fn every_difference_starts_over_says_which_and_remembers_the_upload() {
        assert!(reason_for(|b| b.source.bytes = 12).contains("it was 10 bytes, it is 12 now"));
        assert!(reason_for(|b| b.source.mtime_ns = 9).contains("written"));
        assert!(reason_for(|b| b.bucket = Bucket::new("other").unwrap()).contains("oss://demo/dir/key"));
        assert!(reason_for(|b| b.endpoint = "https://f".into()).contains("https://e"));
        assert!(reason_for(|b| b.part_bytes = 1).contains("8388608 bytes, it is 1 now"));
        let described = |name: &str, digest| Some([(name.to_owned(), digest)].into());
        assert!(reason_for(|b| b.description = described("content-type", 8)).contains(": content-type"));
        assert!(reason_for(|b| b.description = described("acl", 7)).contains(": acl, content-type"));
        assert!(reason_for(|b| b.description = None).contains("an earlier haul"));
    }

    #[test]
    fn another_identity_keeps_the_upload_and_makes_claims_of_its_parts() {
        let mut old = sample();
        let number = PartNumber::new(3).unwrap();
        old.apply(Record::PartStored(number, part(3)));
        for (change, said) in [
            ((|b| b.source.inode = 9) as fn(&mut Binding), "not the same one"),
            (|b| b.source.device = 9, "not the same one"),
            (|b| b.source.ctime_ns = 9, "metadata"),
        ] {
            let mut binding = old.binding.clone();
            change(&mut binding);
            let (new, found) = resume(Some(&log_of(&old)), binding.clone()).unwrap();
            assert_eq!(new, Checkpoint { binding: binding.clone(), parts: [].into(), ..old.clone() });
            let Found::Moved(claims) = found else { panic!("{found:?}") };
            assert_eq!(claims.parts, [(number, part(3))].into());
            assert!(claims.why.contains(said), "{}", claims.why);
            // What is bound anew is what the next process finds.
            assert_eq!(resume(Some(&log_of(&new)), binding).unwrap(), (new, Found::Resumed));
        }
    }

    #[test]
    fn uploads_inherited_from_older_checkpoints_are_carried_on() {
        let mut old = sample();
        let mut older = old.open_upload().unwrap();
        older.upload_id = UploadId("older".into());
        old.apply(Record::Abandoned(older.clone()));
        let mut binding = old.binding.clone();
        binding.part_bytes += 1;
        let (new, _) = resume(Some(&log_of(&old)), binding).unwrap();
        assert_eq!(new.abandoned, [older, old.open_upload().unwrap()]);
    }

    #[test]
    fn what_knew_no_upload_is_replaced_without_a_word() {
        let mut old = Checkpoint::new(sample().binding);
        let mut binding = old.binding.clone();
        binding.key = crate::model::object::Key::new("another").unwrap();
        assert_eq!(
            resume(Some(&log_of(&old)), binding.clone()).unwrap(),
            (Checkpoint::new(binding.clone()), Found::Nothing)
        );
        let older = sample().open_upload().unwrap();
        old.apply(Record::Abandoned(older.clone()));
        let (new, found) = resume(Some(&log_of(&old)), binding).unwrap();
        assert_eq!((new.abandoned, found), (vec![older], Found::Nothing), "what is to be aborted stays known");
    }

    #[test]
    fn a_torn_tail_costs_only_the_tail_and_is_counted() {
        let mut log = log_of(&sample());
        let record = Record::PartStored(PartNumber::new(7).unwrap(), part(7));
        frame::push(&mut log, &record::encode_record(&record));
        let whole = log.len();
        frame::push(&mut log, &record::encode_record(&Record::UploadGone));
        log.truncate(whole + 3);
        let found = fold(&log).unwrap();
        assert_eq!((found.torn_bytes, found.checkpoint.parts.len()), (3, 1));
    }

    #[test]
    fn damage_in_the_first_frame_starts_over() {
        let mut log = log_of(&sample());
        *log.last_mut().unwrap() ^= 1;
        let (new, found) = resume(Some(&log), sample().binding).unwrap();
        assert_eq!(new, Checkpoint::new(sample().binding));
        assert!(matches!(found, Found::StartedOver { reason } if reason.contains("damaged")));
    }

    /// A log as the journal writes it: a snapshot that has an upload or not, and what names uploads twice.
    fn written(snapshot: &Checkpoint, records: &[Record]) -> Vec<u8> {
        let mut log = log_of(snapshot);
        let naming: Vec<_> = snapshot.naming_records().collect();
        let twice = records.iter().flat_map(|r| std::iter::repeat_n(r, if r.names_upload() { 2 } else { 1 }));
        naming.iter().chain(twice).for_each(|r| frame::push(&mut log, &record::encode_record(r)));
        log
    }

    #[test]
    fn no_flipped_bit_of_a_log_makes_an_upload_forgotten() {
        let (fresh, resumed) = (Checkpoint::new(sample().binding), sample());
        let mut older = sample().open_upload().unwrap();
        older.upload_id = UploadId("older".into());
        let stored = Record::PartStored(PartNumber::new(7).unwrap(), part(7));
        let logs = [
            written(&fresh, &[Record::Initiated(UploadId("first".into())), stored.clone()]),
            written(&fresh, &[Record::Abandoned(older), Record::Initiated(UploadId("first".into()))]),
            written(&resumed, &[stored]),
        ];
        for log in logs {
            let intact = fold(&log).unwrap().checkpoint;
            let names = |checkpoint: &Checkpoint| upload_ids(checkpoint).cloned().collect::<BTreeSet<_>>();
            for bit in 0..log.len() * 8 {
                let mut damaged = log.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(has_magic(&damaged), "bit {bit}");
                match resume(Some(&damaged), sample().binding) {
                    Ok((found, _)) => assert_eq!(names(&found), names(&intact), "bit {bit}"),
                    Err(version) => panic!("bit {bit} is version {version}"),
                }
            }
        }
    }

    #[test]
    fn a_log_of_which_nothing_is_left_says_how_to_look_for_its_upload() {
        let mut log = log_of(&Checkpoint::new(sample().binding));
        *log.last_mut().unwrap() ^= 1;
        let (new, found) = resume(Some(&log), sample().binding).unwrap();
        assert_eq!(new.abandoned, []);
        assert!(matches!(found, Found::StartedOver { reason } if reason.contains("uploads list oss://demo/dir/key")));
    }

    #[test]
    fn what_is_completed_stays_so_and_is_never_to_be_aborted() {
        let mut done = sample();
        done.apply(Record::PartStored(PartNumber::new(1).unwrap(), part(1)));
        done.apply(Record::Completed(completed()));
        assert_eq!(resume(Some(&log_of(&done)), done.binding.clone()).unwrap(), (done.clone(), Found::Resumed));
        let mut moved = done.binding.clone();
        moved.source.inode += 1;
        let (new, found) = resume(Some(&log_of(&done)), moved.clone()).unwrap();
        assert!(new.completed.as_ref().is_some_and(|completed| completed.claimed));
        assert!(matches!(&found, Found::Moved(claims) if claims.parts == done.parts));
        let (again, found) = resume(Some(&log_of(&new)), moved).unwrap();
        assert!(matches!(found, Found::Moved(claims) if claims.parts == done.parts), "a kill before it was compared");
        assert_eq!(again, new);
        let mut other = done.binding.clone();
        other.part_bytes += 1;
        let (new, _) = resume(Some(&log_of(&done)), other).unwrap();
        assert_eq!((new.abandoned, new.completed), (vec![], None));
    }

    #[test]
    fn names_that_no_store_gave_are_damage() {
        for (id, tag) in
            [("x".repeat(70_000), "A"), (String::new(), "A"), ("\u{1b}[2J".into(), "A"), ("u".into(), "\u{9b}")]
        {
            let mut forged = sample();
            forged.upload_id = Some(UploadId(id));
            forged.parts.insert(PartNumber::new(1).unwrap(), StoredPart { etag: ETag::new(tag), ..part(1) });
            let (_, found) = resume(Some(&log_of(&forged)), sample().binding).unwrap();
            assert!(matches!(found, Found::StartedOver { .. }), "{tag:?}");
        }
    }

    #[test]
    fn more_than_can_be_written_again_is_damage() {
        let abandon = |log: &mut Vec<u8>, n: usize, endpoint_bytes: usize| {
            let endpoint = "e".repeat(endpoint_bytes);
            let open = OpenUpload { endpoint, upload_id: UploadId(n.to_string()), ..sample().open_upload().unwrap() };
            frame::push(log, &record::encode_record(&Record::Abandoned(open)));
        };
        // So many that taking each in would take ages, and a few that are too long for a snapshot.
        for (uploads, endpoint_bytes) in [(100_000, 1), (300, 60_000)] {
            let mut log = log_of(&sample());
            (0..uploads).for_each(|n| abandon(&mut log, n, endpoint_bytes));
            let (new, found) = resume(Some(&log), sample().binding).unwrap();
            assert_eq!(new.abandoned.len(), 0);
            assert!(matches!(found, Found::StartedOver { .. }));
        }
    }

    #[test]
    fn an_empty_file_is_no_checkpoint_and_no_reason_to_complain() {
        assert_eq!(resume(Some(b""), sample().binding).unwrap().1, Found::Nothing);
        assert_eq!(resume(None, sample().binding).unwrap().1, Found::Nothing);
    }
}
