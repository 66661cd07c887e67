//! `haul put`: uploads a file, or prints the plan.

use std::path::PathBuf;
use std::time::Duration;

use haul::client::{Client, Transfer, Uploaded};
use haul::error::Error;
use haul::model::event::Event;
use haul::model::object::ObjectUrl;
use haul::model::settings::{CheckpointAt, IfChanged, ObjectOptions, ReaderKind, UploadRequest};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::{self, Connect, Put, Reader};
use super::connect::{Place, inputs, place, runtime};
use super::exit::Failure;
use super::file;
use super::progress::Bar;
use super::report;
use super::signals::Stop;
use super::tuned::{Tuned, parts_begun};
use super::uploads::abort_command;

const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// # Errors
/// See [`super::exit`]; 130 after a signal that asks for the end.
pub fn run(put: &Put, quiet: bool, verbose: u8) -> Result<(), Failure> {
    let mut request = request(put)?;
    let url = ObjectUrl { bucket: request.bucket.clone(), key: request.key.to_string() };
    check_receipt(put)?;
    let mut place = place(&put.connect, &request.bucket)?;
    place.settings.explain = put.explain;
    place.settings.memory = put.memory;
    place.settings.max_rate = put.max_rate;
    place.settings.max_cpu = put.max_cpu;
    let runtime = runtime()?;
    let client = tuned_client(put, &place, &mut request, &runtime)?;
    if put.dry_run {
        let plan = runtime.block_on(client.plan(&request))?;
        if put.json {
            report::event(&plan)
        } else {
            report::print(report::plan(&plan, &url))
        }
        return Ok(());
    }
    let keeps_checkpoint = request.checkpoint != CheckpointAt::Off;
    let bar = Bar::new(put.progress, quiet);
    let screen = Screen { connect: &put.connect, json: put.json, quiet, verbose: verbose > 0, warnings: 0, bar };
    let (done, warnings) = runtime
        .block_on(async {
            let mut signals = Signals::listen()?;
            watch(client.upload(request), screen, &mut signals).await
        })
        .map_err(|error: Error| Failure::from(error).of_upload(keeps_checkpoint))?;
    if put.json {
        report::print(report::done(&done, &url, warnings));
    } else if !quiet {
        report::print(report::summary(&done, &url));
    }
    Ok(())
}

/// The engine refuses the source and the checkpoint; what else this command reads must not become a receipt either.
fn check_receipt(put: &Put) -> Result<(), Failure> {
    let Some(path) = &put.receipt else { return Ok(()) };
    let inputs: Vec<_> = inputs(&put.connect).into_iter().chain(put.tuned.clone()).collect();
    let inputs: Vec<_> = inputs.iter().map(PathBuf::as_path).chain([&*put.file]).collect();
    file::check_output(path, &inputs, "choose another place for the receipt")
}

/// A client of `place`. What was not typed is taken from the endpoint's profile, if there is one.
fn tuned_client(put: &Put, place: &Place, request: &mut UploadRequest, runtime: &Runtime) -> Result<Client, Failure> {
    let Some(tuned) = Tuned::find(put, place.endpoint().as_deref()) else {
        return Ok(place.client(place.settings.threads)?);
    };
    let client = place.client(put.connect.threads.map_or(tuned.threads(), usize::from))?;
    tuned.apply(put, request, client.parallel_max());
    if put.part_size.is_none()
        && let Some(begun) = parts_begun(&runtime.block_on(client.plan(request))?)
    {
        request.part_size = begun;
    }
    Ok(client)
}

/// The upload that was typed.
fn request(put: &Put) -> Result<UploadRequest, Failure> {
    let name = put.file.file_name().and_then(|name| name.to_str());
    let key = match name {
        Some(name) => put.url.key_for(name).map_err(|e| Failure::usage(e.to_string()))?,
        // The name is not needed when the key is whole.
        None if !put.url.key.is_empty() && !put.url.key.ends_with('/') => {
            put.url.key_for("").map_err(|e| Failure::usage(e.to_string()))?
        }
        None => {
            let file = put.file.display();
            return Err(Failure::usage(format!("{file} has no name in UTF-8 to make a key of: write the key out")));
        }
    };
    let mut request = UploadRequest::new(&put.file, put.url.bucket.clone(), key);
    request.options = options(put);
    request.part_size = put.part_size.unwrap_or_default();
    request.parallel = put.parallel.unwrap_or_default();
    request.reader = match put.reader {
        None | Some(Reader::Auto) => None,
        Some(Reader::Mmap) => Some(ReaderKind::Mmap),
        Some(Reader::Uring) => Some(ReaderKind::Uring),
        Some(Reader::Pread) => Some(ReaderKind::Pread),
    };
    request.chunk_bytes = put.chunk_size;
    request.checkpoint = match (&put.checkpoint, &put.checkpoint_dir) {
        _ if put.no_checkpoint => CheckpointAt::Off,
        (Some(path), _) => CheckpointAt::Path(path.clone()),
        (None, Some(dir)) => CheckpointAt::Directory(dir.clone()),
        (None, None) => CheckpointAt::BesideFile,
    };
    request.if_changed = match put.if_changed {
        args::IfChanged::Fail => IfChanged::Fail,
        args::IfChanged::Restart => IfChanged::Restart,
    };
    request.verify_reread = put.verify_reread;
    request.receipt = put.receipt.clone();
    Ok(request)
}

fn options(put: &Put) -> ObjectOptions {
    ObjectOptions {
        content_type: put.content_type.clone(),
        cache_control: put.cache_control.clone(),
        content_disposition: put.content_disposition.clone(),
        content_encoding: put.content_encoding.clone(),
        metadata: put.meta.clone(),
        storage_class: put.storage_class.clone(),
        acl: put.acl.clone(),
        tags: put.tag.clone(),
        forbid_overwrite: put.forbid_overwrite,
        sse: put.sse.clone(),
        sse_key_id: put.sse_key_id.clone(),
        callback: put.callback.clone(),
        callback_var: put.callback_var.clone(),
        traffic_limit: put.traffic_limit,
    }
}

/// What a person or a program sees while the upload runs.
struct Screen<'a> {
    connect: &'a Connect,
    json: bool,
    quiet: bool,
    verbose: bool,
    warnings: u32,
    bar: Bar,
}

impl Screen<'_> {
    fn show(&mut self, event: &Event) {
        self.bar.note(event);
        self.warnings += u32::from(matches!(event, Event::Warning { .. } | Event::LeftOpen { .. }));
        if self.json {
            report::event(event);
        } else if let Event::LeftOpen { endpoint, bucket, key, upload_id, why } = event
            && !self.quiet
        {
            let command = abort_command(&format!("oss://{bucket}/{key}"), upload_id, endpoint, self.connect);
            self.bar.say(&format!("warning: an upload stays open in the store: {why}; abort it with\n  {command}"));
        } else if let Some(line) = report::notice(event, self.verbose).filter(|_| !self.quiet) {
            self.bar.say(&line);
        }
    }
}

/// Follows the transfer to its end. The first signal that asks for the end cancels it; SIGUSR1 prints what every exchange in
/// flight is waiting for.
async fn watch(
    mut transfer: Transfer,
    mut screen: Screen<'_>,
    signals: &mut Signals,
) -> Result<(Uploaded, u32), Error> {
    let mut redraw = tokio::time::interval(REDRAW_EVERY);
    let mut cancelled = false;
    loop {
        tokio::select! {
            event = transfer.next_event() => match event {
                Some(event) => screen.show(&event),
                None => break,
            },
            _ = redraw.tick() => {
                let verifying = transfer.activities().iter().any(|activity| activity.operation == "HeadObject");
                screen.bar.update(transfer.progress(), verifying);
            }
            asked = signals.next(cancelled) => {
                if asked == Asked::WhatIsGoingOn {
                    screen.bar.say(&report::activities(transfer.progress(), &transfer.activities()));
                    continue;
                }
                cancelled = true;
                if !screen.quiet {
                    screen.bar.say("stopping; once more ends at once");
                }
                transfer.cancel();
            }
        }
    }
    screen.bar.end();
    Ok((transfer.wait().await?, screen.warnings))
}

/// What a signal asks for.
#[derive(PartialEq)]
enum Asked {
    Stop,
    WhatIsGoingOn,
}

struct Signals {
    stop: Stop,
    user1: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Error> {
        let user1 = signal(SignalKind::user_defined1());
        let user1 = user1.map_err(|cause| Error::System { what: "listen for signals", cause })?;
        Ok(Self { stop: Stop::listen()?, user1 })
    }

    async fn next(&mut self, stopping: bool) -> Asked {
        tokio::select! {
            () = self.stop.asked(), if !stopping => Asked::Stop,
            _ = self.user1.recv() => Asked::WhatIsGoingOn,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn typed(file: &OsStr, url: &str) -> Result<UploadRequest, Failure> {
        let arguments = [OsStr::new("haul"), OsStr::new("put"), file, OsStr::new(url)];
        match Cli::try_parse_from(arguments).unwrap().command {
            Command::Put(put) => request(&put),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_that_is_empty_or_a_prefix_gets_the_name_of_the_file() {
        let key = |url| typed(OsStr::new("/a/b.bin"), url).unwrap().key.to_string();
        assert_eq!((key("oss://demo").as_str(), key("oss://demo/d/").as_str()), ("b.bin", "d/b.bin"));
        assert_eq!(key("oss://demo/d/k"), "d/k");
    }

    #[test]
    fn a_file_name_that_is_not_utf_8_needs_a_whole_key() {
        let name = OsStr::from_bytes(b"/a/\xff");
        assert_eq!(typed(name, "oss://demo/").unwrap_err().code, 2);
        assert_eq!(typed(name, "oss://demo/k").unwrap().key.as_str(), "k");
    }
}
