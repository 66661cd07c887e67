//! Where samples are taken: uploads of one file to one key, and what has to be cleaned up after them.
//!
//! An upload keeps no checkpoint, so that the client aborts it itself when it ends early. What is left then is the object,
//! which each upload replaces, and what could not be aborted: [`Lab::clean`] removes both.

use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use haul::client::Client;
use haul::error::Error;
use haul::model::event::Event;
use haul::model::object::{Bucket, Key, ObjectUrl};
use haul::model::retry::FaultKind;
use haul::model::settings::{CheckpointAt, Parallel, PartSize, ReaderKind, UploadRequest};
use haul::source::SourceError;
use haul::source::file::SourceFile;
use haul::source::reread::forget;
use tempfile::NamedTempFile;

use super::search::{Budget, Seen, Setting};
use crate::cli::connect::Place;
use crate::cli::exit::{Failure, INTERRUPTED};
use crate::cli::signals::{self, Stop};

/// What the last part of every key begins with that `haul tune` makes, so that nothing else is ever removed.
pub const KEY: &str = "haul-tune-";

/// The file that is sent.
pub enum SampleFile {
    /// Random bytes, gone with this value.
    Made(NamedTempFile),
    Named(PathBuf),
}

impl SampleFile {
    /// Writes a file of random bytes to the directory for temporary files, and to its disk. Less if the end is asked for
    /// meanwhile.
    ///
    /// # Errors
    /// What the system says.
    pub fn make(bytes: u64) -> std::io::Result<Self> {
        let mut file = NamedTempFile::with_prefix(KEY)?;
        let mut block = vec![0; 1 << 20];
        let mut rng = fastrand::Rng::new();
        let mut left = bytes as usize;
        while left > 0 && !signals::is_asked() {
            let now = left.min(block.len());
            rng.fill(&mut block[..now]);
            file.write_all(&block[..now])?;
            left -= now;
        }
        file.as_file().sync_data()?;
        file.rewind()?;
        Ok(Self::Made(file))
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Made(file) => file.path(),
            Self::Named(path) => path,
        }
    }

    /// Makes it shorter, if it was made here.
    ///
    /// # Errors
    /// What the system says.
    pub fn shorten(&self, bytes: u64) -> std::io::Result<()> {
        match self {
            Self::Made(file) => file.as_file().set_len(bytes),
            Self::Named(_) => Ok(()),
        }
    }

    /// # Errors
    /// Exit code 3 if it cannot be opened.
    pub fn open(&self) -> Result<SourceFile, Failure> {
        Ok(SourceFile::open(self.path()).map_err(Error::from)?)
    }
}

/// The end of a run that was asked for.
fn interrupted() -> Failure {
    Failure { code: INTERRUPTED, message: "interrupted: no profile was made".into(), hint: None }
}

pub struct Lab {
    place: Place,
    /// One for each number of threads that was tried: its connections are kept.
    clients: BTreeMap<u32, Client>,
    pub file: SampleFile,
    bucket: Bucket,
    key: Key,
    /// Whether the file is dropped from the page cache before every upload.
    cold: bool,
    stop: Stop,
    uploads: u32,
    /// Of the object, in a bucket that keeps them.
    versions: Vec<String>,
}

/// When parts were sent, and what was sent more than once.
#[derive(Default)]
struct Watch {
    sending: Option<Instant>,
    completing: Option<Instant>,
    bytes_again: u64,
}

impl Watch {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Planned { .. } | Event::Initiated { .. } => self.sending = Some(Instant::now()),
            Event::Completing { .. } => self.completing = Some(Instant::now()),
            Event::PartDone { bytes, attempts, .. } => {
                self.bytes_again += bytes * u64::from(attempts.saturating_sub(1))
            }
            _ => {}
        }
    }
}

impl Lab {
    /// A key of its own below `url`; nothing is sent.
    ///
    /// # Errors
    /// Exit code 2 for a prefix that is too long.
    pub fn new(place: Place, url: &ObjectUrl, file: SampleFile, cold: bool, stop: Stop) -> Result<Self, Failure> {
        let name = format!("{KEY}{:016x}", fastrand::u64(..));
        let prefix = url.key.strip_suffix('/').unwrap_or(&url.key);
        let key = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let key = Key::new(key).map_err(|e| Failure::usage(e.to_string()))?;
        let (bucket, clients, versions) = (url.bucket.clone(), BTreeMap::new(), Vec::new());
        Ok(Self { place, clients, file, bucket, key, cold, stop, uploads: 0, versions })
    }

    /// `oss://BUCKET/KEY` of what is made.
    pub fn url(&self) -> String {
        format!("oss://{}/{}", self.bucket, self.key)
    }

    pub fn endpoint(&self) -> String {
        self.place.endpoint().unwrap_or_else(|| "embedded store".into())
    }

    /// Threads of a client, unless another number is tried.
    pub fn threads(&self) -> u32 {
        self.place.settings.threads as u32
    }

    /// How many uploads were begun.
    pub fn uploads(&self) -> u32 {
        self.uploads
    }

    /// A client that has no connections yet.
    pub fn new_client(&self, threads: u32) -> Result<Client, Failure> {
        Ok(self.place.client(threads as usize)?)
    }

    /// The client that uploads by so many threads.
    pub fn client(&mut self, threads: u32) -> Result<Client, Failure> {
        if !self.clients.contains_key(&threads) {
            self.clients.insert(threads, self.new_client(threads)?);
        }
        Ok(self.clients[&threads].clone())
    }

    fn request(&self, setting: &Setting) -> UploadRequest {
        let mut request = UploadRequest::new(self.file.path(), self.bucket.clone(), self.key.clone());
        request.reader = setting.reader;
        request.chunk_bytes = setting.chunk_bytes;
        request.parallel = setting.parallel.map_or(Parallel::Auto, Parallel::Parts);
        request.part_size = setting.part_bytes.map_or(PartSize::Auto, PartSize::Bytes);
        request.checkpoint = CheckpointAt::Off;
        request
    }

    /// Which reader would be used; `None` if the one of the setting cannot be had here.
    ///
    /// # Errors
    /// Exit code 3 if the file cannot be read.
    pub async fn reader(&mut self, setting: &Setting) -> Result<Option<ReaderKind>, Failure> {
        let request = self.request(setting);
        match self.client(setting.threads)?.plan(&request).await {
            Ok(Event::Planned { reader, .. }) => Ok(Some(reader)),
            Ok(_) | Err(Error::Source(SourceError::Reader { .. })) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// How long the store takes to say that it has no such object.
    ///
    /// # Errors
    /// See [`crate::cli::exit`].
    pub async fn ask(&mut self, client: &Client) -> Result<Duration, Failure> {
        let begun = Instant::now();
        let answer = tokio::select! {
            answer = client.stat(&self.bucket, &self.key) => answer,
            () = self.stop.asked() => return Err(interrupted()),
        };
        match answer {
            Ok(_) => Ok(begun.elapsed()),
            Err(error) if error.fault_kind() == Some(FaultKind::NotFound) => Ok(begun.elapsed()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends the file once. It is cut off at `limit`, unless all parts are there by then.
    ///
    /// # Errors
    /// See [`crate::cli::exit`]; 130 after a signal that asks for the end.
    pub async fn upload(&mut self, setting: &Setting, limit: Duration) -> Result<Seen, Failure> {
        if self.cold {
            forget(&self.file.open()?).map_err(Error::from)?;
        }
        let client = self.client(setting.threads)?;
        self.uploads += 1;
        let begun = Instant::now();
        let mut transfer = client.upload(self.request(setting));
        let (mut watch, mut cut, mut stopped) = (Watch::default(), None, false);
        let end = tokio::time::sleep(limit);
        tokio::pin!(end);
        loop {
            tokio::select! {
                event = transfer.next_event() => match event {
                    Some(event) => watch.note(&event),
                    None => break,
                },
                () = &mut end, if cut.is_none() && watch.completing.is_none() => {
                    cut = Some((transfer.progress().bytes_sent, Instant::now()));
                    transfer.cancel();
                }
                () = self.stop.asked(), if !stopped => {
                    stopped = true;
                    transfer.cancel();
                }
            }
        }
        let sending = watch.sending.unwrap_or(begun);
        let ended = transfer.wait().await;
        self.versions.extend(ended.as_ref().ok().and_then(|done| done.version_id.clone()));
        let (bytes, until) = match (ended, cut) {
            _ if stopped => return Err(interrupted()),
            (Ok(done), _) => (done.bytes, watch.completing),
            (Err(Error::Cancelled), Some((bytes, at))) => (bytes, Some(at)),
            (Err(error), _) => return Err(error.into()),
        };
        let seconds = until.unwrap_or_else(Instant::now).duration_since(sending).as_secs_f64();
        Ok(Seen {
            bytes_per_second: bytes as f64 / seconds.max(1e-9),
            spent: Budget { bytes: bytes + watch.bytes_again, time: begun.elapsed() },
            cut: cut.is_some() && until != watch.completing,
        })
    }

    /// Removes everything that was made. A second signal ends the process, whatever is left then.
    ///
    /// # Errors
    /// See [`crate::cli::exit`].
    pub async fn clean(&mut self) -> Result<(), Failure> {
        if self.uploads == 0 {
            return Ok(());
        }
        let client = self.new_client(1)?;
        Ok(clean(&client, &self.bucket, &self.key, &self.versions).await?)
    }
}

/// Deletes an object, or these versions of it, and aborts its uploads. Tries all, and gives the first error.
pub async fn clean(client: &Client, bucket: &Bucket, key: &Key, versions: &[String]) -> Result<(), Error> {
    let mut first = Ok(());
    for version in versions {
        first = first.and(client.delete_object(bucket, key, Some(version)).await);
    }
    if versions.is_empty() {
        // Also where no upload is known to have ended well: the answer may have been lost.
        first = client.delete_object(bucket, key, None).await;
    }
    for upload in client.list_uploads(bucket, key.as_str()).await? {
        if let Some((listed, upload_id)) = upload.named().filter(|(listed, _)| *listed == key) {
            first = first.and(client.abort_upload(bucket, listed, upload_id).await.map(drop));
        }
    }
    first
}
