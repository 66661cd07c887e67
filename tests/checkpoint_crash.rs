//! A simulated power loss at every storage operation, with every length of unsynced tail and every kind of damage, breaks
//! none of the promises of the checkpoint; and the checker that says so is seen to catch what breaks them.
//!
//! A *script* runs against a disk and leaves a history: the facts it handed over, and how many of them it was told are
//! durable. Whatever disk is found afterwards must hold the fold of a prefix of these facts that contains all the durable
//! ones.

use std::path::Path;

use haul::checkpoint::wal::sim::{Disk, Trouble};
use haul::checkpoint::wal::{Storage, frame, log::Log};
use haul::checkpoint::{Binding, Checkpoint, Found, Journal, OpenUpload, Record, StoredPart, record};
use haul::model::object::{Bucket, ETag, Fingerprint, Key, UploadId};
use haul::model::part::PartNumber;

const NAME: &str = "log";

/// What a script was told, and what it handed over.
#[derive(Default)]
struct History {
    /// Whether the open that came first returned.
    opened: bool,
    handed_over: Vec<Record>,
    /// How many of them were acknowledged as durable.
    durable: usize,
}

fn binding(file_bytes: u64) -> Binding {
    let source = Fingerprint { device: 1, inode: 2, bytes: file_bytes, mtime_ns: 3, ctime_ns: 4 };
    let (bucket, key) = (Bucket::new("demo").unwrap(), Key::new("key").unwrap());
    Binding { source, endpoint: "https://e".into(), bucket, key, part_bytes: 4, description: Some([].into()) }
}

fn stored(n: u32) -> Record {
    let part = StoredPart { bytes: 4, etag: ETag::new(&format!("{n:032X}")), crc64: u64::from(n) };
    Record::PartStored(PartNumber::new(n).unwrap(), part)
}

fn old_upload() -> OpenUpload {
    let Binding { endpoint, bucket, key, .. } = binding(0);
    OpenUpload { endpoint, bucket, key, upload_id: UploadId("old".into()) }
}

/// A disk that holds the checkpoint of another file, whose upload "old" is open with one part.
fn disk_of_an_older_transfer() -> Disk {
    let disk = Disk::default();
    let mut old = Checkpoint::new(binding(999));
    old.apply(Record::Initiated(UploadId("old".into())));
    old.apply(stored(1));
    Log::new(disk.clone(), NAME).compact([record::encode_snapshot(&old)]).unwrap();
    disk.after_kill()
}

fn open(disk: &Disk) -> Result<(Journal, Checkpoint, Found), haul::checkpoint::CheckpointError> {
    Journal::open_on(disk.clone(), Path::new(NAME), NAME, binding(10))
}

/// The facts of a transfer, and behind which of them it waits until they are durable.
fn facts() -> Vec<(Record, bool)> {
    let completing = Record::Completing([("acl".to_owned(), 1)].into());
    vec![
        (Record::Initiated(UploadId("new".into())), true),
        (stored(1), false),
        (stored(2), false),
        (stored(3), true),
        (Record::AbandonedAborted(UploadId("old".into())), true),
        (completing, false),
        (stored(4), true),
        (stored(2), false),
    ]
}

/// The real journal, as the engine uses it.
fn real_journal(disk: &Disk) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut history = History::default();
    let Ok((journal, ..)) = open(disk) else { return history };
    history.opened = true;
    for (fact, wait) in facts() {
        history.handed_over.push(fact.clone());
        if journal.record(fact).is_err() || (wait && runtime.block_on(journal.barrier()).is_err()) {
            break;
        }
        if wait {
            history.durable = history.handed_over.len();
        }
    }
    history
}

/// A planted bug: acknowledges before it syncs.
fn acknowledges_too_early(disk: &Disk) -> History {
    by_hand(disk, |log, frames, acknowledge| {
        log.append(frames)?;
        acknowledge();
        log.sync()
    })
}

/// The same without the bug, to show that it is the bug that is caught.
fn acknowledges_after_the_sync(disk: &Disk) -> History {
    by_hand(disk, |log, frames, acknowledge| {
        log.append(frames)?;
        log.sync()?;
        acknowledge();
        Ok(())
    })
}

type Wrote = Result<(), std::sync::Arc<std::io::Error>>;

fn by_hand(disk: &Disk, write: impl Fn(&mut Log<Disk>, &[u8], &mut dyn FnMut()) -> Wrote) -> History {
    let mut history = History::default();
    let mut log = Log::new(disk.clone(), NAME);
    if log.compact([record::encode_snapshot(&base())]).is_err() {
        return history;
    }
    history.opened = true;
    for (fact, _) in facts() {
        let mut frames = Vec::new();
        frame::push(&mut frames, &record::encode_record(&fact));
        history.handed_over.push(fact);
        let all = history.handed_over.len();
        if write(&mut log, &frames, &mut || history.durable = all).is_err() {
            break;
        }
    }
    history
}

/// A planted bug: creates the log by appending and never makes its directory entry durable.
fn forgets_the_directory(disk: &Disk) -> History {
    let mut disk = disk.clone();
    let mut history = History::default();
    let mut frames = Vec::new();
    frame::push(&mut frames, &record::encode_snapshot(&base()));
    let fact = facts().remove(0).0;
    frame::push(&mut frames, &record::encode_record(&fact));
    let written = disk.remove(NAME).and_then(|()| disk.append(NAME, &frames)).and_then(|()| disk.sync(NAME));
    history.handed_over.push(fact);
    (history.opened, history.durable) = (true, usize::from(written.is_ok()));
    history
}

/// A planted bug: opens without compaction, so that records stand behind a torn tail.
fn appends_behind_a_torn_tail(disk: &Disk) -> History {
    let first = acknowledges_after_the_sync(disk);
    if !first.opened {
        return first;
    }
    let mut log = Log::new(disk.clone(), NAME);
    let mut frames = Vec::new();
    frame::push(&mut frames, &record::encode_record(&stored(9)));
    let mut disk = disk.clone();
    let torn = disk.append(NAME, &frames[..5]);
    let written = torn.is_ok() && log.append(&frames).is_ok() && log.sync().is_ok();
    let mut handed_over = first.handed_over;
    handed_over.push(stored(9));
    let durable = if written { handed_over.len() } else { first.durable };
    History { opened: first.opened, handed_over, durable }
}

/// What the journal of this transfer starts from on [`disk_of_an_older_transfer`].
fn base() -> Checkpoint {
    let mut checkpoint = Checkpoint::new(binding(10));
    checkpoint.apply(Record::Abandoned(old_upload()));
    checkpoint
}

/// Says which promise the disk found after a crash breaks.
fn check(found: &Disk, history: &History) -> Result<(), String> {
    let (journal, first, _) = open(found).map_err(|e| format!("cannot be opened: {e}"))?;
    drop(journal);
    let (_, second, _) = open(found).map_err(|e| format!("cannot be opened again: {e}"))?;
    if first != second {
        return Err("recovery is not idempotent".into());
    }
    if !first.parts.is_empty() && first.upload_id.is_none() {
        return Err("parts of no upload".into());
    }
    let mut folded = base();
    let mut allowed = Vec::new();
    for (count, fact) in history.handed_over.iter().map(Some).chain([None]).enumerate() {
        if count >= history.durable {
            allowed.push(folded.clone());
        }
        fact.into_iter().for_each(|fact| folded.apply(fact.clone()));
    }
    if allowed.contains(&first) { Ok(()) } else { Err(format!("lost, invented or forgot something: {first:?}")) }
}

/// Runs the script with each trouble and checks every disk that may be found. Gives the number of disks checked.
fn explore(
    script: impl Fn(&Disk) -> History,
    lies: bool,
    troubles: impl Fn(usize) -> Vec<Trouble>,
) -> Result<usize, String> {
    let mut checked = 0;
    for operation in 0.. {
        let mut reached = false;
        for trouble in troubles(operation) {
            let disk = disk_of_an_older_transfer();
            if lies {
                disk.lie();
            }
            disk.trouble(trouble);
            let history = script(&disk);
            assert!(history.opened || history.handed_over.is_empty());
            reached |= disk.operations() > operation;
            disk.cut_power();
            for (how, found) in disk.outcomes() {
                check(&found, &history).map_err(|broken| format!("{trouble:?}, {how}: {broken}"))?;
                checked += 1;
            }
        }
        if !reached {
            return Ok(checked);
        }
    }
    unreachable!("the script is finite")
}

fn power_loss(operation: usize) -> Vec<Trouble> {
    vec![Trouble::PowerLossAt { operation }]
}

/// One run to the end; the power goes when all is done.
fn power_loss_afterwards(operation: usize) -> Vec<Trouble> {
    if operation == 0 { power_loss(usize::MAX) } else { vec![] }
}

#[test]
fn a_power_loss_at_any_operation_breaks_no_promise() {
    let checked = explore(real_journal, false, power_loss).unwrap();
    assert!(checked > 500, "only {checked} disks");
}

#[test]
fn a_full_disk_at_any_operation_breaks_no_promise() {
    let full = |operation| {
        [0, 1, 7, 8, 9, 20, usize::MAX].map(|after_bytes| Trouble::NoSpaceAt { operation, after_bytes }).to_vec()
    };
    let checked = explore(real_journal, false, full).unwrap();
    assert!(checked > 500, "only {checked} disks");
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    let disk = disk_of_an_older_transfer();
    let history = real_journal(&disk);
    let (_, found, _) = open(&disk.after_kill()).unwrap();
    let mut all = base();
    history.handed_over.into_iter().for_each(|fact| all.apply(fact));
    assert_eq!(found, all);
}

#[test]
fn after_a_full_disk_the_journal_gives_the_same_error_for_ever() {
    let disk = disk_of_an_older_transfer();
    disk.trouble(Trouble::NoSpaceAt { operation: 1, after_bytes: 3 });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (journal, ..) = open(&disk).unwrap();
    let first = runtime.block_on(journal.record_durably(stored(1))).unwrap_err().to_string();
    assert_eq!(journal.record(stored(2)).unwrap_err().to_string(), first);
    assert_eq!(runtime.block_on(journal.barrier()).unwrap_err().to_string(), first);
    assert_eq!(runtime.block_on(journal.remove()).unwrap_err().to_string(), first);
    assert!(open(&disk.after_kill()).is_ok(), "what was durable is still there");
}

#[test]
fn the_checker_catches_a_disk_that_lies_about_sync() {
    let caught = explore(real_journal, true, power_loss).unwrap_err();
    assert!(caught.contains("lost, invented or forgot"), "{caught}");
}

#[test]
fn the_checker_catches_a_log_that_acknowledges_before_it_syncs() {
    explore(acknowledges_after_the_sync, false, power_loss).unwrap();
    explore(acknowledges_too_early, false, power_loss).unwrap_err();
}

#[test]
fn the_checker_catches_a_lost_directory_entry() {
    let caught = explore(forgets_the_directory, false, power_loss_afterwards).unwrap_err();
    assert!(caught.contains("directory entry"), "{caught}");
}

#[test]
fn the_checker_catches_records_behind_a_torn_tail() {
    let caught = explore(appends_behind_a_torn_tail, false, power_loss).unwrap_err();
    assert!(caught.contains("lost, invented or forgot"), "{caught}");
}
