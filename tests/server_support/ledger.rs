//! What a store may hold: every name remembers the writes it was asked for, when they began and when they were answered.
//!
//! A name may show what any of its writes left, unless an acknowledged write began after that one was acknowledged. So
//! several clients may write one name at a time, and a write that a kill cut short may have happened or not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// What a write leaves; `None` after a delete.
pub type Content = Option<Version>;

#[derive(Clone, PartialEq, Eq)]
pub struct Version {
    pub body: Arc<[u8]>,
    /// As `x-oss-object-type` says; empty for parts.
    pub kind: String,
}

impl Version {
    pub fn new(body: impl Into<Arc<[u8]>>, kind: &str) -> Content {
        Some(Self { body: body.into(), kind: kind.to_owned() })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Object(String),
    /// Of an upload.
    Part(String, u32),
}

struct Write {
    content: Content,
    /// Moments count what happened in the ledger.
    begun: u64,
    answered: Option<u64>,
}

#[derive(Default)]
struct Pages {
    now: u64,
    acknowledged: usize,
    writes: BTreeMap<Name, Vec<Write>>,
    /// Acknowledged uploads that nobody asked to end: id and key.
    uploads: BTreeMap<String, String>,
}

/// Shared by all clients.
#[derive(Default)]
pub struct Ledger {
    pages: Mutex<Pages>,
    progress: Condvar,
    /// From here on a server may fail to answer.
    pub ending: AtomicBool,
}

impl Ledger {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap()
    }

    /// Before the request is sent. Answers with the moment, which names the write.
    pub fn begin(&self, name: &Name, content: Content) -> u64 {
        let mut pages = self.pages();
        pages.now += 1;
        let begun = pages.now;
        pages.writes.entry(name.clone()).or_insert_with(nothing).push(Write { content, begun, answered: None });
        begun
    }

    pub fn acknowledge(&self, name: &Name, begun: u64) {
        let mut pages = self.pages();
        pages.now += 1;
        let now = pages.now;
        let write = pages.writes.get_mut(name).and_then(|all| all.iter_mut().find(|write| write.begun == begun));
        write.expect("a write that began").answered = Some(now);
        pages.acknowledged += 1;
        self.progress.notify_all();
    }

    /// Every content that the name may show.
    pub fn possible(&self, name: &Name) -> Vec<Content> {
        let pages = self.pages();
        let Some(writes) = pages.writes.get(name) else { return vec![None] };
        let last = writes.iter().filter(|write| write.answered.is_some()).map(|write| write.begun).max().unwrap_or(0);
        let may_show = |write: &&Write| write.answered.is_none_or(|answered| answered >= last);
        writes.iter().filter(may_show).map(|write| write.content.clone()).collect()
    }

    /// The name shows this: all that was under way is decided.
    pub fn settle(&self, name: &Name, content: Content) {
        self.pages().writes.insert(name.clone(), vec![Write { content, begun: 0, answered: Some(0) }]);
    }

    /// What the last write leaves, for names with one writer.
    pub fn last(&self, name: &Name) -> Content {
        self.pages().writes.get(name)?.last()?.content.clone()
    }

    pub fn names(&self) -> Vec<Name> {
        self.pages().writes.keys().cloned().collect()
    }

    pub fn open_upload(&self, id: &str, key: &str) {
        self.pages().uploads.insert(id.to_owned(), key.to_owned());
    }

    /// From here on the upload may be gone, and its parts with it.
    pub fn end_upload(&self, id: &str) {
        let mut pages = self.pages();
        pages.uploads.remove(id);
        pages.writes.retain(|name, _| !matches!(name, Name::Part(of, _) if of == id));
    }

    pub fn uploads(&self) -> BTreeMap<String, String> {
        self.pages().uploads.clone()
    }

    /// How many writes were not answered.
    pub fn under_way(&self) -> usize {
        self.pages().writes.values().flatten().filter(|write| write.answered.is_none()).count()
    }

    /// What the writes were about that were not answered.
    pub fn unanswered(&self) -> Vec<Name> {
        let pages = self.pages();
        let is_open = |writes: &[Write]| writes.iter().any(|write| write.answered.is_none());
        pages.writes.iter().filter(|(_, writes)| is_open(writes)).map(|(name, _)| name.clone()).collect()
    }

    /// Returns after so many more acknowledgements.
    pub fn wait_for(&self, more: usize) {
        let pages = self.pages();
        let enough = pages.acknowledged + more;
        let limit = Duration::from_secs(60);
        let waited = self.progress.wait_timeout_while(pages, limit, |pages| pages.acknowledged < enough).unwrap();
        assert!(!waited.1.timed_out(), "the clients are stuck");
    }

    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }
}

/// A name nobody wrote shows nothing.
fn nothing() -> Vec<Write> {
    vec![Write { content: None, begun: 0, answered: Some(0) }]
}
