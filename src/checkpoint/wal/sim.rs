//! A storage that loses power: what is *live* (in the page cache) and what is *durable* are kept apart.
//!
//! The fault model. Appended bytes are live at once and durable after a sync. When the power goes, of the unsynced tail
//! any prefix survives, whole, with its last byte damaged, or with zeros in place of the rest; a file whose directory
//! entry was never synced may be gone; a replace or remove that was under way has happened or has not. A full disk takes
//! some bytes of a write and refuses the rest. A lying disk answers a sync and does nothing.
//! For tests only.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::Storage;

/// What goes wrong, and at which operation (appends, syncs, replaces and removes are counted from 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The power goes during this operation; every later one fails.
    PowerLossAt { operation: usize },
    /// This write takes `after_bytes` bytes and fails; there is room again afterwards.
    NoSpaceAt { operation: usize, after_bytes: usize },
}

/// What the power loss does to the unsynced tail behind the bytes that survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The file ends there.
    Lost,
    /// The file ends there, and its last surviving unsynced byte is wrong.
    LastByte,
    /// The file kept its length: zeros follow.
    Zeros,
}

#[derive(Clone, Default)]
struct SimFile {
    live: Vec<u8>,
    durable_bytes: usize,
    /// Whether the directory entry is durable.
    named: bool,
}

impl SimFile {
    fn durable(bytes: Vec<u8>) -> Self {
        Self { durable_bytes: bytes.len(), live: bytes, named: true }
    }
}

type Files = BTreeMap<String, SimFile>;

#[derive(Default)]
struct State {
    files: Files,
    /// The other outcome of the replace or remove that the power loss interrupted.
    in_flight: Option<Files>,
    trouble: Option<Trouble>,
    operations: usize,
    lies: bool,
    dead: bool,
}

/// A disk; clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// Arms a fault.
    pub fn trouble(&self, trouble: Trouble) {
        self.state().trouble = Some(trouble);
    }

    /// From now on answers syncs and does nothing.
    pub fn lie(&self) {
        self.state().lies = true;
    }

    /// Operations so far.
    pub fn operations(&self) -> usize {
        self.state().operations
    }

    /// Cuts the power now.
    pub fn cut_power(&self) {
        self.state().dead = true;
    }

    /// Every disk that may be found when the power is back, with a description.
    pub fn outcomes(&self) -> Vec<(String, Disk)> {
        let state = self.state();
        let mut all = Vec::new();
        for (which, files) in [("not done", Some(&state.files)), ("done", state.in_flight.as_ref())] {
            for (how, files) in files.into_iter().flat_map(survivors) {
                all.push((format!("operation in flight {which}, {how}"), Self::holding(files)));
            }
        }
        all
    }

    /// A healthy copy of what is live: what a process finds after another was killed, the power having stayed on.
    pub fn after_kill(&self) -> Disk {
        Self::holding(self.state().files.clone())
    }

    /// One of the disks that [`Disk::outcomes`] lists; `pick(n)` chooses a number below `n`.
    pub fn after_power_loss(&self, mut pick: impl FnMut(usize) -> usize) -> Disk {
        let state = self.state();
        let mut files = match &state.in_flight {
            Some(after) if pick(2) == 0 => after.clone(),
            _ => state.files.clone(),
        };
        files.retain(|_, file| file.named || pick(2) == 0);
        for file in files.values_mut() {
            let kept = pick(file.live.len() - file.durable_bytes + 1);
            let damage = [Damage::Lost, Damage::LastByte, Damage::Zeros][pick(3)];
            *file = SimFile::durable(damage_tail(file, kept, damage));
        }
        Self::holding(files)
    }

    /// The bytes of a file that no power loss takes; `None` if there may be no such file.
    pub fn durable(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let file = state.files.get(name).filter(|file| file.named)?;
        Some(file.live[..file.durable_bytes].to_vec())
    }

    fn holding(files: Files) -> Self {
        Self(Arc::new(Mutex::new(State { files, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no user of the disk panics while holding it")
    }
}

/// Every way in which one file with an unsynced tail may survive; tests have one such file.
fn survivors(files: &Files) -> Vec<(String, Files)> {
    let mut all = Vec::new();
    for (name, file) in files {
        if !file.named {
            let mut without = files.clone();
            without.remove(name);
            all.push((format!("{name} lost its directory entry"), without));
        }
        for kept in 0..=file.live.len() - file.durable_bytes {
            for damage in [Damage::Lost, Damage::LastByte, Damage::Zeros] {
                let mut damaged = files.clone();
                damaged.insert(name.clone(), SimFile::durable(damage_tail(file, kept, damage)));
                all.push((format!("{kept} unsynced bytes kept, {damage:?}"), damaged));
            }
        }
    }
    if all.is_empty() { vec![("no file".into(), files.clone())] } else { all }
}

fn damage_tail(file: &SimFile, kept: usize, damage: Damage) -> Vec<u8> {
    let mut bytes = file.live[..file.durable_bytes + kept].to_vec();
    match damage {
        Damage::Lost => {}
        Damage::LastByte if kept > 0 => *bytes.last_mut().expect("kept > 0") ^= 0x55,
        Damage::LastByte => {}
        Damage::Zeros => bytes.resize(file.live.len(), 0),
    }
    bytes
}

/// What is to become of an operation.
enum Fate {
    Succeeds,
    PowerGoes,
    Full { after_bytes: usize },
}

impl State {
    fn begin(&mut self) -> io::Result<Fate> {
        if self.dead {
            return Err(power_lost());
        }
        let now = self.operations;
        self.operations += 1;
        Ok(match self.trouble {
            Some(Trouble::PowerLossAt { operation }) if operation == now => {
                self.dead = true;
                Fate::PowerGoes
            }
            Some(Trouble::NoSpaceAt { operation, after_bytes }) if operation == now => Fate::Full { after_bytes },
            _ => Fate::Succeeds,
        })
    }

    /// An operation that has happened wholly or not at all.
    fn atomic(&mut self, change: impl FnOnce(&mut Files)) -> io::Result<()> {
        let fate = self.begin()?;
        let mut after = self.files.clone();
        change(&mut after);
        match fate {
            Fate::Succeeds => self.files = after,
            Fate::PowerGoes => {
                self.in_flight = Some(after);
                return Err(power_lost());
            }
            Fate::Full { .. } => return Err(io::ErrorKind::StorageFull.into()),
        }
        Ok(())
    }
}

fn power_lost() -> io::Error {
    io::Error::other("the power is gone")
}

impl Storage for Disk {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let state = self.state();
        if state.dead { Err(power_lost()) } else { Ok(state.files.get(name).map(|f| f.live.clone())) }
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.begin()?;
        let live = &mut state.files.entry(name.to_owned()).or_default().live;
        match fate {
            Fate::Succeeds => live.extend_from_slice(bytes),
            Fate::PowerGoes => {
                live.extend_from_slice(bytes);
                return Err(power_lost());
            }
            Fate::Full { after_bytes } => {
                live.extend_from_slice(&bytes[..after_bytes.min(bytes.len())]);
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        match state.begin()? {
            Fate::Succeeds => {}
            Fate::PowerGoes => return Err(power_lost()),
            Fate::Full { .. } => return Err(io::ErrorKind::StorageFull.into()),
        }
        let lies = state.lies;
        let file = state.files.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        if !lies {
            // The content only: like fdatasync, it says nothing of the directory.
            file.durable_bytes = file.live.len();
        }
        Ok(())
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = SimFile::durable(bytes.to_vec());
        self.state().atomic(|files| drop(files.insert(name.to_owned(), file)))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.state().atomic(|files| drop(files.remove(name)))
    }
}
