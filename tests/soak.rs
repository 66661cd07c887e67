//! Hundreds of uploads in a row under random faults, by clients that live as long as those of a backup appliance: nothing
//! is corrupted, no upload is forgotten, and neither client nor store holds more and more.
//!
//! `HAUL_SOAK=500` does so many, of 1 MiB to 2 GiB, for which it wants `--release` and 10 GiB of disk; else a few small
//! ones are done. `HAUL_SEED=N` repeats a draw.

mod common;
mod server_support;
mod soak_support;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{ID, SECRET, Served, files_below};
use haul::blocking::Client;
use haul::client::Uploaded;
use haul::error::Error;
use haul::model::event::Event;
use haul::model::object::{Bucket, Key, UploadId};
use haul::model::retry::{FaultKind, RetryPolicy};
use haul::model::settings::{CheckpointAt, ClientSettings, PartSize, Signature, UploadRequest};
use haul::store::credentials::Credentials;
use soak_support::draw::{End, FULL, Job, Memory, Place, SMALL, Scale, rules};
use soak_support::oracle::{Oracle, call};
use soak_support::tally::{PROCESSES, Tally};
use soak_support::watch::{Usage, cpu_seconds, descriptors, leaks, threads_named};

/// Uploads, unless `HAUL_SOAK` says otherwise.
const UPLOADS: u32 = 40;
/// One file for each upload of those at a time.
const FILES: [&str; 4] = ["file-0", "file-1", "file-2", "file-3"];
/// Runs that one upload may take.
const RUNS_MAX: u32 = 30;
/// What ends by itself does so within that time.
const SETTLING: Duration = Duration::from_secs(90);

/// What this process holds is measured, so that one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Two stores with the same faults, and room for files.
struct Stage {
    scratch: tempfile::TempDir,
    null: Served,
    kept: Served,
}

impl Stage {
    fn new(rules: &[String], seed: u64) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("checkpoints")).unwrap();
        let (log, seed) = (scratch.path().join("faults.jsonl"), seed.to_string());
        let mut options = vec!["--seed", &seed, "--fault-log", log.to_str().unwrap()];
        options.extend(rules.iter().flat_map(|rule| ["--fault", rule]));
        let (null, kept) = (Served::start_null_with(&options), Served::start_with(scratch.path(), &options));
        Self { scratch, null, kept }
    }

    /// Faults of both stores.
    fn log(&self) -> PathBuf {
        self.scratch.path().join("faults.jsonl")
    }

    /// Files that are neither the stores' nor those that are uploaded.
    fn left_behind(&self) -> Vec<PathBuf> {
        let is_expected = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            path.starts_with(&self.kept.directory) || *path == self.log() || FILES.contains(&name)
        };
        files_below(self.scratch.path()).into_iter().filter(|path| !is_expected(path)).collect()
    }

    fn store(&self, place: Place) -> &Served {
        if place == Place::Directory { &self.kept } else { &self.null }
    }

    /// A client that is patient enough, and no more.
    fn client(&self, place: Place) -> Client {
        let settings = ClientSettings {
            region: Some("cn-hangzhou".into()),
            signature: if place == Place::NullV1 { Signature::V1 } else { Signature::V4 },
            connect_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(2),
            // Full at once, so that what is kept for later is not taken for what is kept for ever.
            buffer_bytes: 8 << 20,
            retry: RetryPolicy {
                base: Duration::from_millis(20),
                cap: Duration::from_millis(500),
                ..RetryPolicy::default()
            },
            ..ClientSettings::new(&self.store(place).endpoint)
        };
        Client::new(settings, Some(Credentials::new(ID, SECRET))).unwrap()
    }

    fn request(&self, job: &Job, file: &Path) -> UploadRequest {
        UploadRequest {
            part_size: job.part_size,
            parallel: job.parallel,
            reader: job.reader,
            checkpoint: match job.memory {
                Memory::BesideFile => CheckpointAt::BesideFile,
                Memory::Directory => CheckpointAt::Directory(self.scratch.path().join("checkpoints")),
                Memory::None => CheckpointAt::Off,
            },
            ..UploadRequest::new(file, Bucket::new("demo").unwrap(), Key::new(job.key()).unwrap())
        }
    }

    /// Compares what the store has with what was written: by checksum, and byte by byte where it keeps bytes.
    fn check_object(&self, job: &Job, file: &Path, crc64: u64) -> Result<(), String> {
        let oracle = Oracle(self.store(job.place).address());
        match oracle.object(&job.key()) {
            Some(stored) if stored == (job.bytes, crc64) => {}
            other => return Err(format!("the store has {other:?}, the file {:?}", (job.bytes, crc64))),
        }
        if job.place == Place::Directory && !oracle.is_file(&job.key(), file) {
            return Err("the bytes in the store are not those of the file".to_owned());
        }
        Ok(())
    }

    /// Finds uploads that are open though the client knew of them, or though they have parts; gives the number of the
    /// others: the answer that told their id was lost, so that nobody can end them.
    fn check_open_uploads(&self, place: Place, tally: &Tally) -> Result<usize, String> {
        let oracle = Oracle(self.store(place).address());
        let open = oracle.open_uploads();
        for upload in &open {
            let parts = oracle.parts(upload);
            if tally.knows(&upload.1) || parts > 0 {
                return Err(format!("{upload:?} was left open, with {parts} parts"));
            }
        }
        Ok(open.len())
    }
}

/// Whether a store with these faults may end a run like this.
fn may_happen(error: &Error) -> bool {
    match error {
        Error::Exchange { fault, .. } => {
            fault.kind.is_passing()
                || matches!(fault.kind, FaultKind::Protocol | FaultKind::NoSuchUpload)
                // A part was lost, or the document of the refusal was garbled.
                || fault.code.as_deref().is_none_or(|code| code == "InvalidPart")
        }
        Error::PartCorrupted { .. } | Error::PutCorrupted { .. } | Error::ObjectCorrupted { .. } => true,
        _ => false,
    }
}

struct Soak<'a> {
    stage: &'a Stage,
    seed: u64,
    uploads: u32,
    scale: Scale,
    next: AtomicU32,
    tally: Mutex<Tally>,
}

impl Soak<'_> {
    /// Does one upload after the other, all from one file that is written anew each time.
    fn work(&self, clients: &[Client], slot: usize) {
        let file = self.stage.scratch.path().join(FILES[slot]);
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.uploads {
                break;
            }
            let job = Job::draw(self.seed, number, self.scale);
            let crc64 = job.write_file(self.seed, &file);
            let result = self.upload(&clients[job.place as usize], &job, &file, crc64);
            let usage = [std::process::id(), self.stage.null.pid(), self.stage.kept.pid()].map(Usage::of);
            lock(&self.tally).note(&job, result, usage);
        }
        lock(&self.tally).own_cpu(cpu_seconds("thread-self"));
    }

    /// One upload until it is done, or cancelled for good; says whether it is done.
    fn upload(&self, client: &Client, job: &Job, file: &Path, crc64: u64) -> Result<bool, String> {
        let mut cancel = match job.end {
            End::Done => None,
            End::TakenUp(percent) | End::Aborted(percent) => Some(percent),
        };
        for _ in 0..RUNS_MAX {
            let (result, checkpoint) = self.run(client, job, file, cancel.take());
            match result {
                Ok(done) => {
                    self.check(job, file, crc64, &done, checkpoint.as_deref())?;
                    return Ok(true);
                }
                Err(Error::Cancelled) if matches!(job.end, End::TakenUp(_)) => {}
                Err(Error::Cancelled) => {
                    self.abort(client, job, checkpoint.as_deref())?;
                    return Ok(false);
                }
                Err(error) if may_happen(&error) => {}
                Err(error) => return Err(format!("{error:?}")),
            }
        }
        Err(format!("not done in {RUNS_MAX} runs"))
    }

    /// One run, cancelled when `cancel` per cent of the bytes are confirmed; its end, and where its checkpoint is.
    fn run(
        &self,
        client: &Client,
        job: &Job,
        file: &Path,
        cancel: Option<u32>,
    ) -> (Result<Uploaded, Error>, Option<PathBuf>) {
        let mut transfer = client.upload(self.stage.request(job, file));
        let mut place = None;
        while let Some(event) = transfer.next_event() {
            lock(&self.tally).hear(&event);
            if let Event::Planned { checkpoint, .. } = &*event {
                place.clone_from(checkpoint);
            }
            let confirmed = transfer.progress().bytes_confirmed;
            if cancel.is_some_and(|percent| confirmed * 100 >= u64::from(percent) * job.bytes) {
                transfer.cancel();
            }
        }
        let result = transfer.wait();
        lock(&self.tally).ended(&result);
        (result, place)
    }

    fn check(
        &self,
        job: &Job,
        file: &Path,
        crc64: u64,
        done: &Uploaded,
        checkpoint: Option<&Path>,
    ) -> Result<(), String> {
        if (done.bytes, done.crc64, done.crc64_verified) != (job.bytes, crc64, true) {
            return Err(format!("{} bytes, CRC64 {}, verified: {}", done.bytes, done.crc64, done.crc64_verified));
        }
        if let Some(left) = checkpoint.and_then(left_of) {
            return Err(format!("{left:?} was left"));
        }
        self.stage.check_object(job, file, crc64)
    }

    /// What a person does who does not want a cancelled upload any more.
    fn abort(&self, client: &Client, job: &Job, checkpoint: Option<&Path>) -> Result<(), String> {
        let Some(path) = checkpoint.filter(|path| path.exists()) else { return Ok(()) };
        let known = haul::checkpoint::read(path).map_err(|error| error.to_string())?;
        std::fs::remove_file(path).unwrap();
        if let Some(left) = left_of(path) {
            return Err(format!("{left:?} was left"));
        }
        let Some(id) = known.checkpoint.upload_id else { return Ok(()) };
        let (bucket, key) = (Bucket::new("demo").unwrap(), Key::new(job.key()).unwrap());
        let mut tries = (0..RUNS_MAX).map(|_| client.abort_upload(&bucket, &key, &id));
        tries.find_map(Result::ok).map(drop).ok_or_else(|| format!("{id} could not be aborted"))
    }
}

/// A checkpoint, or what belongs to one, that is there.
fn left_of(checkpoint: &Path) -> Option<PathBuf> {
    let beside = ["lock", "new", "bad"].map(|suffix| checkpoint.with_added_extension(suffix));
    beside.into_iter().chain([checkpoint.to_owned()]).find(|path| path.exists())
}

/// Waits until nothing is left of what the clients held; says what is if that takes too long.
fn settles(left: impl Fn() -> Vec<String>) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let left = left();
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > SETTLING {
            return Err(format!("{left:?} stay when the clients are gone"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Descriptors that this process did not have before.
fn new_descriptors(before: &[String]) -> Vec<String> {
    let mut gone = before.to_vec();
    let mut is_new = |open: &String| gone.iter().position(|old| old == open).map(|at| gone.swap_remove(at)).is_none();
    descriptors(std::process::id()).into_iter().filter(|open| is_new(open)).collect()
}

#[test]
fn hundreds_of_uploads_in_a_row_leave_nothing_behind_but_their_objects() {
    let _alone = lock(&ALONE);
    let full = number("HAUL_SOAK").map(|uploads| uploads as u32);
    let (uploads, scale) = full.map_or((UPLOADS, SMALL), |uploads| (uploads, FULL));
    let seed = number("HAUL_SEED").unwrap_or(1);
    let stage = Stage::new(&rules(), seed);
    // What a process has once, such as the runtime's ends of signals, is there with the first client.
    drop(stage.client(Place::NullV4));
    let processes = [std::process::id(), stage.null.pid(), stage.kept.pid()];
    let (before, begun) = (descriptors(std::process::id()), Instant::now());
    let soak = Soak { stage: &stage, seed, uploads, scale, next: AtomicU32::new(0), tally: Mutex::default() };
    let clients = Place::ALL.map(|place| stage.client(place));
    std::thread::scope(|scope| {
        for slot in 0..FILES.len() {
            let (soak, clients) = (&soak, &clients);
            scope.spawn(move || soak.work(clients, slot));
        }
    });
    let mut tally = soak.tally.into_inner().unwrap();
    println!("{uploads} uploads, {} at a time, seed {seed}:", FILES.len());
    for place in [Place::NullV4, Place::Directory] {
        match stage.check_open_uploads(place, &tally) {
            Ok(number) => tally.count("uploads open without parts: the answer with their id was lost", number),
            Err(wrong) => tally.wrong.push(wrong),
        }
    }
    tally.print(begun.elapsed(), processes, &stage.log());
    drop(clients);
    let usage = std::mem::take(&mut tally.usage);
    tally.wrong.extend(PROCESSES.iter().zip(&usage).flat_map(|(name, usage)| leaks(name, usage)));
    // In the stores, connections that were slowed down on demand may go on for a while.
    tally.wrong.extend(settles(|| new_descriptors(&before)).err());
    tally.wrong.extend(settles(|| threads_named("haul")).err());
    tally.wrong.extend(stage.left_behind().into_iter().map(|left| format!("{left:?} was left")));
    assert!(tally.wrong.is_empty(), "seed {seed}: {:#?}", tally.wrong);
}

/// A stage with one upload that was stored well, with these faults.
fn one_upload(place: Place, rules: &[&str]) -> (Stage, Job, PathBuf, u64) {
    let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
    let stage = Stage::new(&rules, 1);
    let part_size = PartSize::Bytes(100 << 10);
    let drawn = Job::draw(1, 0, SMALL);
    let job = Job { bytes: 1 << 20, part_size, place, ..drawn };
    let file = stage.scratch.path().join(FILES[0]);
    let crc64 = job.write_file(1, &file);
    stage.client(place).upload(stage.request(&job, &file)).wait().unwrap();
    (stage, job, file, crc64)
}

#[test]
fn the_soak_notices_an_object_that_is_not_the_file() {
    let _alone = lock(&ALONE);
    let (stage, job, file, crc64) = one_upload(Place::NullV4, &[]);
    stage.check_object(&job, &file, crc64).unwrap();
    stage.check_object(&job, &file, crc64 ^ 1).unwrap_err();
    let longer = Job { bytes: job.bytes + 1, ..job };
    stage.check_object(&longer, &file, crc64).unwrap_err();
    // A bit that turns behind its checksum: only the bytes tell.
    let (stage, job, file, crc64) = one_upload(Place::Directory, &["UploadPart:#3:rot"]);
    let wrong = stage.check_object(&job, &file, crc64).unwrap_err();
    assert!(wrong.contains("bytes"), "{wrong}");
}

#[test]
fn the_soak_notices_an_upload_that_is_left_open() {
    let _alone = lock(&ALONE);
    let (stage, job, ..) = one_upload(Place::Directory, &[]);
    let initiate = || {
        let target = format!("/demo/{}?uploads", job.key());
        call("POST", &target).body("").try_send(stage.kept.address()).unwrap().expect(200).element("UploadId").unwrap()
    };
    let (id, mut tally) = (initiate(), Tally::default());
    assert_eq!(stage.check_open_uploads(Place::Directory, &tally), Ok(1), "nobody knew it, and it has no parts");
    tally.hear(&Event::Initiated { upload_id: UploadId(id.clone()) });
    stage.check_open_uploads(Place::Directory, &tally).unwrap_err();
    let target = format!("/demo/{}?partNumber=1&uploadId={id}", job.key());
    call("PUT", &target).body("part").try_send(stage.kept.address()).unwrap().expect(200);
    stage.check_open_uploads(Place::Directory, &Tally::default()).unwrap_err();
}

/// Usage of this process behind each of so many steps, of which each may keep something.
fn watched<T>(mut step: impl FnMut() -> T) -> Vec<Usage> {
    let mut kept = Vec::new();
    let mut look = || {
        kept.push(step());
        Usage::of(std::process::id())
    };
    (0..UPLOADS).map(|_| look()).collect()
}

#[test]
fn the_soak_notices_what_is_kept_of_every_upload() {
    let _alone = lock(&ALONE);
    let nothing = watched(|| ());
    assert_eq!(leaks("test", &nothing), [""; 0]);
    for (what, leaking) in [
        ("descriptors", watched(|| File::open("/dev/null").unwrap())),
        ("RssAnon", watched(|| vec![1_u8; 2 << 20])),
        ("threads", watched(Parked::new)),
    ] {
        let found = leaks("test", &leaking);
        assert!(found.len() == 1 && found[0].contains(what), "{what}: {found:?}");
    }
}

/// A thread that waits until it is dropped.
struct Parked(Option<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Parked {
    fn new() -> Self {
        let (end, ended) = mpsc::channel();
        let wait = move || ended.recv().unwrap_or_default();
        Self(Some((end, std::thread::spawn(wait))))
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            thread.join().unwrap();
        }
    }
}
