//! Power lost at every call that a group makes to its disk: what was answered is there whole, what was not is there
//! whole or not at all.
//!
//! The disk of this test keeps what was flushed apart from what is only written. When the power is gone, every name
//! that was not flushed may be there or not, each for itself, and every file that was not may be whole, short, or
//! zeros.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard};

use super::commit::{Disk, Group};
use super::tests::{at, put_bytes};
use super::*;
use crate::server::store::Sums;
use crate::server::store::catalog::{Catalog, Last, Refusal};

type Inode = u64;

/// What a power loss leaves.
#[derive(Default)]
struct Durable {
    files: HashMap<Inode, (Vec<u8>, SystemTime)>,
    names: HashMap<Inode, BTreeMap<OsString, Inode>>,
}

impl Durable {
    fn flush_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.names.insert(fs::metadata(dir)?.ino(), names(dir)?);
        Ok(())
    }

    fn flush_file(&mut self, path: &Path) -> io::Result<()> {
        let found = fs::metadata(path)?;
        self.files.insert(found.ino(), (fs::read(path)?, found.modified()?));
        Ok(())
    }

    fn flush_all(&mut self, dir: &Path) -> io::Result<()> {
        self.flush_dir(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() { self.flush_all(&path)? } else { self.flush_file(&path)? }
        }
        Ok(())
    }

    /// Builds what `live` may look like after the power was lost.
    fn rebuild(&self, live: &Path, to: &Path, random: &mut fastrand::Rng) {
        let paths: HashMap<Inode, PathBuf> = all_below(live).into_iter().collect();
        self.rebuild_dir(fs::metadata(live).unwrap().ino(), &paths, live, to, random);
    }

    fn rebuild_dir(
        &self,
        dir: Inode,
        paths: &HashMap<Inode, PathBuf>,
        live: &Path,
        to: &Path,
        random: &mut fastrand::Rng,
    ) {
        fs::create_dir_all(to).unwrap();
        let nothing = BTreeMap::new();
        let flushed = self.names.get(&dir).unwrap_or(&nothing);
        let written = names(live).unwrap_or_default();
        for name in flushed.keys().chain(written.keys()).collect::<BTreeSet<_>>() {
            let Some(inode) = (if random.bool() { flushed.get(name) } else { written.get(name) }) else { continue };
            let now = paths.get(inode);
            if self.names.contains_key(inode) || now.is_some_and(|path| path.is_dir()) {
                let live = now.cloned().unwrap_or_default();
                self.rebuild_dir(*inode, paths, &live, &to.join(name), random);
            } else {
                self.rebuild_file(*inode, now, &to.join(name), random);
            }
        }
    }

    fn rebuild_file(&self, inode: Inode, now: Option<&PathBuf>, to: &Path, random: &mut fastrand::Rng) {
        let written = now.map(|path| (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap()));
        let (bytes, modified) = match (self.files.get(&inode), written) {
            (Some(flushed), _) => flushed.clone(),
            (None, Some((bytes, modified))) => match random.u8(0..4) {
                0 => (bytes, modified),
                1 => (vec![0; bytes.len()], modified),
                2 => (bytes[..bytes.len() / 2].to_vec(), modified),
                _ => (Vec::new(), modified),
            },
            (None, None) => return,
        };
        fs::write(to, bytes).unwrap();
        File::options().write(true).open(to).unwrap().set_modified(modified).unwrap();
    }
}

fn names(dir: &Path) -> io::Result<BTreeMap<OsString, Inode>> {
    fs::read_dir(dir)?.map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?.ino())))).collect()
}

fn all_below(dir: &Path) -> Vec<(Inode, PathBuf)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        all.push((entry.metadata().unwrap().ino(), entry.path()));
        if entry.path().is_dir() {
            all.extend(all_below(&entry.path()));
        }
    }
    all
}

/// How a disk may be.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    FlushesWhole,
    FlushesFiles,
    LiesAboutFiles,
    LiesAboutNames,
    /// Nobody will ask what it kept.
    KeepsNothing,
}

/// Does as it is told until the power goes.
struct FragileDisk {
    root: PathBuf,
    manner: Manner,
    durable: Arc<Mutex<Durable>>,
    /// How many calls it still answers.
    power: Arc<AtomicUsize>,
}

impl FragileDisk {
    fn new(root: &Path, manner: Manner) -> Self {
        let power = Arc::new(AtomicUsize::new(usize::MAX));
        Self { root: root.to_owned(), manner, durable: Arc::default(), power }
    }

    fn call(&self) -> io::Result<MutexGuard<'_, Durable>> {
        let left = self.power.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        left.map(|_| self.durable.lock().unwrap()).map_err(|_| io::Error::other("the power is gone"))
    }
}

impl Disk for FragileDisk {
    fn sync_file(&self, file: &File) -> io::Result<()> {
        let mut durable = self.call()?;
        if matches!(self.manner, Manner::LiesAboutFiles | Manner::KeepsNothing) {
            return Ok(());
        }
        durable.flush_file(&PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut durable = self.call()?;
        let lies = matches!(self.manner, Manner::LiesAboutNames | Manner::KeepsNothing);
        if lies { Ok(()) } else { durable.flush_dir(dir) }
    }

    fn sync_all(&self) -> Option<io::Result<()>> {
        let flush = || self.call()?.flush_all(&self.root);
        (self.manner == Manner::FlushesWhole).then(flush)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _power = self.call()?;
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let _power = self.call()?;
        fs::remove_file(path)
    }
}

/// A store on a fragile disk, with something in it.
struct Scene {
    dir: tempfile::TempDir,
    catalog: Option<Catalog>,
    durable: Arc<Mutex<Durable>>,
    power: Arc<AtomicUsize>,
    /// How many changes the next groups have.
    least: Arc<AtomicUsize>,
    groups: Option<std::thread::JoinHandle<()>>,
    upload: UploadId,
}

const LONG: usize = 100 << 10;
/// How long a group waits for the next of its changes.
const OTHERS: Duration = Duration::from_millis(200);

fn text(byte: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| byte ^ i as u8).collect()
}

impl Scene {
    fn new(manner: Manner) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (committer, queue) = Committer::by_hand();
        let least = Arc::new(AtomicUsize::new(1));
        let medium = DirMedium::open_on(dir.path(), || Ok(committer)).unwrap();
        let disk = FragileDisk::new(dir.path(), manner);
        let (durable, power) = (disk.durable.clone(), disk.power.clone());
        durable.lock().unwrap().flush_all(dir.path()).unwrap();
        let (mut group, size) = (Group::new(Box::new(disk)), least.clone());
        let groups = std::thread::spawn(move || {
            while let Ok(first) = queue.recv() {
                // Two changes may share a turn: the second then comes only after the first is made.
                let more = std::iter::from_fn(|| queue.recv_timeout(OTHERS).ok()).take(size.load(SeqCst) - 1);
                group.make(std::iter::once(first).chain(more));
            }
        });
        let catalog = Catalog::open(Box::new(medium)).unwrap();
        catalog.make_bucket(&at("").bucket, BucketRecord::new()).unwrap();
        for key in ["replaced", "deleted"] {
            put_bytes(&catalog, key, &text(1, 3000)).unwrap();
        }
        let upload = catalog.begin_upload(new_upload("joined")).unwrap();
        put_part(&catalog, &upload, 1, &text(2, LONG)).unwrap();
        // Whatever the manner of the disk: all this was long ago.
        durable.lock().unwrap().flush_all(dir.path()).unwrap();
        Self { dir, catalog: Some(catalog), durable, power, least, groups: Some(groups), upload }
    }

    /// Asks for all [`CHANGES`] at a time; answers which were made.
    fn change(&self, power: usize) -> BTreeSet<&'static str> {
        let catalog = self.catalog.as_ref().unwrap();
        self.power.store(power, SeqCst);
        self.least.store(CHANGES.len(), SeqCst);
        let made = std::thread::scope(|scope| {
            let jobs: Vec<_> =
                CHANGES.iter().map(|(name, job)| (name, scope.spawn(|| job(catalog, &self.upload)))).collect();
            jobs.into_iter().filter_map(|(name, job)| job.join().unwrap().ok().map(|()| *name)).collect()
        });
        self.power.store(0, SeqCst);
        made
    }

    /// What may be found when the power is back.
    ///
    /// # Errors
    /// What is not as it must be.
    fn check(&self, made: &BTreeSet<&str>, seed: u64) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        self.durable.lock().unwrap().rebuild(self.dir.path(), dir.path(), &mut fastrand::Rng::with_seed(seed));
        let disk = FragileDisk::new(dir.path(), Manner::KeepsNothing);
        let medium = DirMedium::open_on(dir.path(), || Committer::start(Box::new(disk))).unwrap();
        let catalog = Catalog::open(Box::new(medium)).unwrap();
        let is = |name: &str, key: &str, before: Option<&[u8]>, after: Option<&[u8]>| {
            let found = read(&catalog, key)?;
            let is_allowed = found.as_deref() == after || !made.contains(name) && found.as_deref() == before;
            let len = found.map(|found| found.len());
            if is_allowed { Ok(()) } else { Err(format!("{name}: {len:?} bytes, made: {}", made.contains(name))) }
        };
        is("replace", "replaced", Some(&text(1, 3000)), Some(&text(3, 5000)))?;
        is("delete", "deleted", Some(&text(1, 3000)), None)?;
        is("make", "made", None, Some(&text(4, 2000)))?;
        is("make empty", "empty", None, Some(b""))?;
        let parts = catalog.list_parts(&at("joined"), &self.upload, 0, 10).map_err(|error| error.to_string())?.0;
        if made.contains("part") && parts.len() != 2 {
            return Err("a part is lost".to_owned());
        }
        let last = Last { acl: None, keep: false };
        catalog.complete(&at("joined"), &self.upload, None, last).map_err(|error| error.to_string())?;
        let (one, both) = (text(2, LONG), [text(2, LONG), text(5, 700)].concat());
        is("part", "joined", Some(&one), Some(&both))?;
        match catalog.list_uploads(&at("").bucket).unwrap().len() {
            0 if made.contains("begin") => Err("an upload is lost".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.catalog = None;
        self.groups.take().unwrap().join().unwrap();
    }
}

type Job = fn(&Catalog, &UploadId) -> Result<(), Refusal>;
const CHANGES: &[(&str, Job)] = &[
    ("replace", |catalog, _| put_bytes(catalog, "replaced", &text(3, 5000))),
    ("make", |catalog, _| put_bytes(catalog, "made", &text(4, 2000))),
    ("make empty", |catalog, _| put_bytes(catalog, "empty", b"")),
    ("delete", |catalog, _| catalog.delete_object(&at("deleted"))),
    ("part", |catalog, upload| put_part(catalog, upload, 2, &text(5, 700))),
    ("begin", |catalog, _| catalog.begin_upload(new_upload("begun")).map(drop)),
];

fn new_upload(key: &str) -> Upload {
    let headers = Vec::new();
    Upload {
        bucket: at("").bucket,
        key: key.to_owned(),
        headers,
        forbid_overwrite: false,
        sequential: false,
        initiated: SystemTime::now(),
    }
}

fn put_part(catalog: &Catalog, upload: &UploadId, number: u32, bytes: &[u8]) -> Result<(), Refusal> {
    let mut blob = catalog.blob()?;
    blob.write(Bytes::copy_from_slice(bytes))?;
    blob.sync()?;
    catalog.put_part(&at("joined"), upload, number, blob, Sums::of(bytes))
}

/// The bytes of an object, if it has those that its record says.
fn read(catalog: &Catalog, key: &str) -> Result<Option<Vec<u8>>, String> {
    match catalog.open_object(&at(key)) {
        Ok((object, content)) => {
            let bytes = content.read(0, 1 << 20).map_err(|error| error.to_string())?.to_vec();
            let is_whole = (bytes.len() as u64, Sums::of(&bytes).crc64) == (object.bytes, object.crc64);
            if is_whole { Ok(Some(bytes)) } else { Err(format!("{key} is torn")) }
        }
        Err(Refusal::NoSuchKey) => Ok(None),
        Err(other) => Err(format!("{key}: {other}")),
    }
}

/// Loses the power at every call of one group, and after it; answers how many calls that were.
fn explore(manner: Manner) -> Result<usize, String> {
    for power in 0.. {
        let scene = Scene::new(manner);
        let made = scene.change(power);
        for seed in 0..6 {
            scene.check(&made, seed).map_err(|wrong| format!("power lost at call {power}, seed {seed}: {wrong}"))?;
        }
        if made.len() == CHANGES.len() {
            return Ok(power);
        }
    }
    unreachable!("a group has an end")
}

#[test]
fn a_power_loss_within_a_group_harms_nothing_that_was_answered_and_halves_nothing() {
    // One flush of everything, six changes, and where they happened: objects, the parts of an upload, uploads.
    assert_eq!(explore(Manner::FlushesWhole), Ok(1 + 6 + 3));
    // Data and record of three objects, a part, an upload's record; the records' directory, and the new upload's.
    assert_eq!(explore(Manner::FlushesFiles), Ok(8 + 2 + 6 + 3));
}

#[test]
fn the_search_notices_a_disk_that_lies_about_flushes() {
    assert!(explore(Manner::LiesAboutFiles).is_err());
    assert!(explore(Manner::LiesAboutNames).is_err());
}
