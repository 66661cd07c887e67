//! What `haul tune` found for an endpoint, taken for every option of `haul put` that was not typed.

use std::path::PathBuf;

use haul::model::event::Event;
use haul::model::settings::{Parallel, PartSize, UploadRequest};
use indicatif::BinaryBytes;

use super::args::Put;
use super::report;
use super::tune::profile::{Profile, ProfileError, place};
use super::tune::search::Setting;

/// A profile that is used.
pub struct Tuned {
    path: PathBuf,
    setting: Setting,
}

impl Tuned {
    /// The profile that was named, or the one of `endpoint` if there is one. One that cannot be used is warned of: it is no
    /// reason not to upload.
    pub fn find(put: &Put, endpoint: Option<&str>) -> Option<Self> {
        if put.no_tuned {
            return None;
        }
        let path = put.tuned.clone().or_else(|| place(endpoint?))?;
        match Profile::read(&path) {
            Ok(profile) => Some(Self { path, setting: profile.chosen.setting }),
            Err(ProfileError::Unreadable(cause))
                if put.tuned.is_none() && cause.kind() == std::io::ErrorKind::NotFound =>
            {
                None
            }
            Err(error) => {
                let path = path.display();
                report::warn(format_args!(
                    "haul: warning: the profile {path} is not used: {error}; write it anew with haul tune"
                ));
                None
            }
        }
    }

    /// Fills in what was not typed, and says so.
    ///
    /// - `parallel_max`: parts in flight that are to be had here and now, which may be fewer than where the profile was made.
    pub fn apply(&self, put: &Put, request: &mut UploadRequest, parallel_max: u32) {
        let Setting { reader, parallel, part_bytes, chunk_bytes, threads } = self.setting;
        let mut taken = Vec::new();
        if let Some(parts) = parallel.filter(|_| put.parallel.is_none()) {
            let allowed = parts.min(parallel_max);
            request.parallel = Parallel::Parts(allowed);
            let less =
                if allowed < parts { format!(" (not {parts}: no more are allowed here)") } else { String::new() };
            taken.push(format!("{allowed} parts in flight{less}"));
        }
        if let Some(bytes) = part_bytes.filter(|_| put.part_size.is_none()) {
            request.part_size = PartSize::Bytes(bytes);
            taken.push(format!("parts of {}", BinaryBytes(bytes)));
        }
        if let Some(reader) = reader.filter(|_| put.reader.is_none()) {
            request.reader = Some(reader);
            taken.push(format!("reader {reader}"));
        }
        if let Some(bytes) = chunk_bytes.filter(|_| put.chunk_size.is_none()) {
            request.chunk_bytes = Some(bytes);
            taken.push(format!("chunks of {}", BinaryBytes(bytes.into())));
        }
        if put.connect.threads.is_none() {
            taken.push(format!("{threads} threads"));
        }
        if !taken.is_empty() {
            request.tuned = Some(self.path.clone());
            let (taken, path) = (taken.join(", "), self.path.display());
            report::warn(format_args!("tuned: {taken}, from {path}; --no-tuned ignores it"));
        }
    }

    /// Worker threads, unless they were typed.
    pub fn threads(&self) -> usize {
        self.setting.threads as usize
    }
}

/// The length of the parts of an upload that was begun, which goes on with no other: one that was begun before the endpoint
/// was tuned need not start over.
pub fn parts_begun(plan: &Event) -> Option<PartSize> {
    let Event::Planned { checkpoint: Some(path), .. } = plan else { return None };
    let checkpoint = haul::checkpoint::read(path).ok()?.checkpoint;
    checkpoint.upload_id.is_some().then_some(PartSize::Bytes(checkpoint.binding.part_bytes))
}
