//! `haul tune`: finds the settings that carry most from this machine to an endpoint.
//!
//! | file | subject |
//! |---|---|
//! | `survey.rs` | what disk, CRC64, TLS and line can do, each on its own |
//! | `lab.rs` | uploads as samples, and the cleaning up after them |
//! | `search.rs`, `statistics.rs` | which setting to sample next, and which to choose |
//! | `profile.rs` | what was found, as a file |
//! | `report.rs`, `svg.rs` | the same as a page with plots |
//! | `compare.rs` | two profiles side by side |
//!
//! `tuning/README.md` has the method, for those who want to check it.

mod compare;
mod lab;
pub mod profile;
mod report;
pub mod search;
mod statistics;
mod survey;
mod svg;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use haul::model::object::{Key, ObjectUrl};
use haul::model::part::PartPlan;
use haul::model::settings::ReaderKind;
use haul::os::name::directory_of;
use haul::os::output;
use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::lab::{Lab, SampleFile};
use self::profile::{Choice, Cost, FORMAT, Profile};
use self::search::{Budget, Ended, Found, Seen, Setting, Space, search};
use self::survey::Survey;
use super::args::Connect;
use super::connect::{self, place, runtime, wait};
use super::exit::{Failure, SOURCE};
use super::file::{check_output, unwritten};
use super::report::{print, warn};
use super::serve::parse_shape;
use super::signals::Stop;
use super::uploads::{quoted, reaching};
use super::values;

const MIB: u64 = 1 << 20;
/// The budget is enough for so many samples; a search takes fewer if it can.
const SAMPLES: u64 = 96;
/// Shortest and longest file that is made to be sent, in bytes: haul without a profile cuts no shorter one into parts.
const FILE_BYTES: (u64, u64) = (PartPlan::AUTO_SINGLE_BYTES, 256 * MIB);
/// Parts in flight that are tried.
const PARALLEL: [u32; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// Lengths of parts that are tried, in bytes.
const PART_BYTES: [u64; 9] = [MIB / 4, MIB / 2, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 32 * MIB, 64 * MIB];
/// Lengths of chunks that are tried, in bytes, and at last what the reader takes by itself.
const CHUNK_BYTES: [Option<u32>; 5] = [Some(128 << 10), Some(256 << 10), Some(512 << 10), Some(1 << 20), None];
/// Most threads that are tried.
const THREADS_MAX: u32 = 16;
/// What an upload may take longer than the patience of the search says, in round trips: its first and last requests, and
/// connections that start slowly.
const GRACE_ROUND_TRIPS: u32 = 10;
/// On a longer path a search begins with more parts in flight.
const LONG_PATH: Duration = Duration::from_millis(20);
/// What to do about an output that cannot be written.
const ELSEWHERE: &str = "choose another place with --out or --report";

const EXAMPLES: &str = "\
Examples:
  Tune for an endpoint, with objects below oss://backups/tune/ that are deleted again:
    haul tune oss://backups/tune/ --endpoint oss-cn-hangzhou.aliyuncs.com --report tune.html
  Try it without an account, against a store that looks far away:
    haul tune --shape rtt=60ms,connection-rate=12MB/s,total-rate=2Gbit/s --budget-time 30s --out far.toml
  Has anything changed since then?
    haul tune compare then.toml now.toml";

/// Find the settings that carry most to an endpoint, and save them for haul put
///
/// Measures disk, checksums, encryption, latency and one connection; then uploads a file again and again with other
/// numbers of parts in flight, part lengths, readers and threads until the best is clear or the budget is spent. Deletes
/// every object that it made. haul put then uses what was found wherever no option says otherwise.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = EXAMPLES)]
pub struct TuneArgs {
    #[command(subcommand)]
    command: Option<TuneCommand>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum TuneCommand {
    /// Show two profiles side by side, and whether they differ by more than chance
    Compare { a: PathBuf, b: PathBuf },
    /// Delete what a run left, as its message said
    Clean {
        /// oss://BUCKET/PREFIX/haul-tune-NUMBER
        url: ObjectUrl,
        #[command(flatten)]
        connect: Box<Connect>,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// oss://BUCKET or oss://BUCKET/PREFIX/: where objects may be made, and deleted again
    #[arg(required_unless_present = "shape")]
    url: Option<ObjectUrl>,
    #[command(flatten)]
    connect: Connect,
    /// Tune against the embedded store, slowed down like this, instead of an endpoint: rtt=60ms,connection-rate=12MB/s, or
    /// a file with such parameters (tuning/profiles has five)
    #[arg(long, value_name = "SPEC|FILE", conflicts_with = "endpoint")]
    shape: Option<String>,
    /// Most bytes to send, from 128MiB
    #[arg(long, value_name = "SIZE", default_value = "8GiB", value_parser = values::budget_bytes)]
    budget_bytes: u64,
    /// Longest time to take, from 1s; making the file and cleaning up come on top
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = values::idle_timeout)]
    budget_time: Duration,
    /// File to send, instead of one of random bytes; it should be short, some 100 MiB
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Drop the file from the page cache before every upload, for files that are not in it when they are uploaded
    #[arg(long)]
    cold: bool,
    /// Save the profile here, instead of where haul put looks for it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// # Errors
/// See [`super::exit`]; 8 if profile or report cannot be written.
pub fn run(typed: &TuneArgs, quiet: bool) -> Result<(), Failure> {
    match &typed.command {
        Some(TuneCommand::Compare { a, b }) => compare::run(a, b),
        Some(TuneCommand::Clean { url, connect }) => clean(url, connect),
        None => tune(&typed.run, quiet),
    }
}

/// Only what a run made: no other key begins so.
fn clean(url: &ObjectUrl, typed: &Connect) -> Result<(), Failure> {
    if !url.key.rsplit('/').next().is_some_and(|name| name.starts_with(lab::KEY)) {
        return Err(Failure::usage(format!("{url} is nothing that haul tune made")));
    }
    let key = Key::new(&*url.key).map_err(|e| Failure::usage(e.to_string()))?;
    let connection = connect::connect(typed, &url.bucket)?;
    wait(lab::clean(&connection.client, &url.bucket, &key, &[]))
}

fn tune(typed: &RunArgs, quiet: bool) -> Result<(), Failure> {
    let url = typed.url.clone().map_or_else(|| "oss://demo/".parse(), Ok).map_err(|e| Failure::usage(e.to_string()))?;
    let inputs = inputs(typed);
    check_outputs(typed.out.as_deref(), typed.report.as_deref(), &inputs)?;
    let place = match &typed.shape {
        Some(shape) => connect::shaped(&typed.connect, parse_shape(shape).map_err(Failure::usage)?, &url.bucket)?,
        None => place(&typed.connect, &url.bucket)?,
    };
    let endpoint = place.endpoint();
    let out = typed.out.clone().or_else(|| profile::place(endpoint.as_deref()?));
    check_outputs(out.as_deref(), typed.report.as_deref(), &inputs)?;
    let (profile, cleaned) = runtime()?.block_on(async {
        let stop = Stop::listen()?;
        let mut lab = Lab::new(place, &url, sample_file(typed)?, typed.cold, stop)?;
        let found = Run { typed, begun: Instant::now(), bar: bar(quiet) }.profile(&mut lab).await;
        let cleaned = lab.clean().await;
        if let Err(failure) = &cleaned {
            let command = format!("haul tune clean {}", quoted(&lab.url()));
            let command = reaching(command, endpoint.as_deref().unwrap_or_default(), &typed.connect);
            let (left, why) = (lab.url(), &failure.message);
            warn(format_args!("haul: warning: {left} may be left in the store: {why}; remove it with\n  {command}"));
        }
        Ok::<_, Failure>((found?, cleaned))
    })?;
    let written = write_outputs(&profile, out.as_deref(), typed.report.as_deref(), &inputs);
    if !quiet {
        let saved = match (out, &written) {
            (_, Err(failure)) => failure.message.clone(),
            (Some(path), Ok(())) => path.display().to_string(),
            (None, Ok(())) => "nowhere: name a file with --out".to_owned(),
        };
        print(format_args!("{}\n{:<11} {saved}", summary(&profile), "saved"));
    }
    written.and(cleaned)
}

/// Files that a run reads.
fn inputs(typed: &RunArgs) -> Vec<PathBuf> {
    connect::inputs(&typed.connect).into_iter().chain(typed.file.clone()).collect()
}

/// Refuses outputs that could not be written, before the budget is spent on what is in them.
fn check_outputs(out: Option<&Path>, report: Option<&Path>, inputs: &[PathBuf]) -> Result<(), Failure> {
    let mut kept: Vec<_> = inputs.iter().map(PathBuf::as_path).collect();
    if let Some(path) = out {
        std::fs::create_dir_all(directory_of(path)).map_err(|e| unwritten(path, &e, ELSEWHERE))?;
        check_output(path, &kept, ELSEWHERE)?;
        kept.push(path);
    }
    report.map_or(Ok(()), |path| check_output(path, &kept, ELSEWHERE))
}

fn write_outputs(
    profile: &Profile,
    out: Option<&Path>,
    report: Option<&Path>,
    inputs: &[PathBuf],
) -> Result<(), Failure> {
    let mut kept: Vec<_> = inputs.iter().map(PathBuf::as_path).collect();
    if let Some(path) = out {
        profile.write(path, &kept).map_err(|e| unwritten(path, &e, ELSEWHERE))?;
        kept.push(path);
    }
    let Some(path) = report else { return Ok(()) };
    output::write(path, report::page(profile).as_bytes(), 0o666, &kept).map_err(|e| unwritten(path, &e, ELSEWHERE))
}

fn sample_file(typed: &RunArgs) -> Result<SampleFile, Failure> {
    match &typed.file {
        Some(path) => {
            let file = SampleFile::Named(path.clone());
            let bytes = file.open()?.bytes();
            match bytes {
                ..MIB => Err(Failure::usage(format!("{} has less than 1 MiB", path.display()))),
                _ if bytes > typed.budget_bytes / 16 => Err(Failure::usage(format!(
                    "{} has {bytes} bytes, too much to be sent many times within {}",
                    path.display(),
                    BinaryBytes(typed.budget_bytes)
                ))),
                _ => Ok(file),
            }
        }
        None => {
            let bytes = (typed.budget_bytes / SAMPLES).clamp(FILE_BYTES.0, FILE_BYTES.1) / MIB * MIB;
            let failed = |e| Failure::new(SOURCE, format!("cannot write a file to send: {e}"));
            SampleFile::make(bytes).map_err(failed)
        }
    }
}

/// One run, from the survey to the profile.
struct Run<'a> {
    typed: &'a RunArgs,
    begun: Instant,
    bar: ProgressBar,
}

impl Run<'_> {
    async fn profile(&self, lab: &mut Lab) -> Result<Profile, Failure> {
        let threads = lab.threads();
        let mut spent = 0;
        let survey = self.survey(lab, threads, &mut spent).await?;
        let sample_bytes = self.fit_file(lab, &survey)?;
        let space = self.space(lab, sample_bytes, threads, survey.cores).await?;
        let latency = Duration::from_secs_f64(survey.latency);
        let start = space.start(if latency > LONG_PATH { 32 } else { 8 }, threads);
        let left = Budget { bytes: self.typed.budget_bytes.saturating_sub(spent), time: self.left() };
        let found = search(&space, start, left, latency * GRACE_ROUND_TRIPS, fastrand::u64(..), async |trial| {
            let seen = lab.upload(&trial.setting, trial.limit.min(self.left())).await?;
            spent += seen.spent.bytes;
            self.tell(&trial.setting, &seen);
            Ok::<_, Failure>(seen)
        });
        let found = found.await?;
        self.bar.finish_and_clear();
        self.made(lab, survey, sample_bytes, found, spent)
    }

    fn left(&self) -> Duration {
        self.typed.budget_time.saturating_sub(self.begun.elapsed())
    }

    async fn survey(&self, lab: &mut Lab, threads: u32, spent: &mut u64) -> Result<Survey, Failure> {
        self.bar.set_message("survey");
        let (disk, crc64) = (survey::disk(&lab.file)?, survey::checksum());
        let encryption = survey::encryption().unwrap_or_default();
        let (connection, latency) = survey::distance(lab).await?;
        let one =
            Setting { parallel: Some(1), part_bytes: Some(lab.file.open()?.bytes()), ..Setting::automatic(threads) };
        let mut rate = async |setting: Setting| {
            let seen = lab.upload(&setting, self.typed.budget_time / 16).await?;
            *spent += seen.spent.bytes;
            Ok::<_, Failure>(seen.bytes_per_second)
        };
        let one_connection = rate(one).await?;
        // The first upload opens connections.
        rate(Setting::automatic(threads)).await?;
        let automatic = rate(Setting::automatic(threads)).await?;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let (connection, latency) = (connection.as_secs_f64(), latency.as_secs_f64());
        Ok(Survey { cores, disk, crc64, encryption, connection, latency, one_connection, automatic })
    }

    /// Makes the file so short that the time is enough for all samples; gives its length.
    fn fit_file(&self, lab: &Lab, survey: &Survey) -> Result<u64, Failure> {
        let bytes = lab.file.open()?.bytes();
        if self.typed.file.is_some() {
            return Ok(bytes);
        }
        let in_time = survey.automatic * self.left().as_secs_f64() / SAMPLES as f64;
        let fitted = (in_time as u64 / MIB * MIB).clamp(FILE_BYTES.0, bytes);
        lab.file.shorten(fitted).map_err(|e| Failure::new(SOURCE, format!("cannot shorten the file to send: {e}")))?;
        Ok(fitted)
    }

    async fn space(&self, lab: &mut Lab, sample_bytes: u64, threads: u32, cores: u32) -> Result<Space, Failure> {
        let parallel_max = lab.client(threads)?.parallel_max();
        let mut readers = vec![None];
        let automatic = lab.reader(&Setting::automatic(threads)).await?;
        for kind in [ReaderKind::Mmap, ReaderKind::Pread, ReaderKind::Uring].map(Some) {
            if kind != automatic && lab.reader(&Setting { reader: kind, ..Setting::automatic(threads) }).await? == kind
            {
                readers.push(kind);
            }
        }
        let threads = match self.typed.connect.threads {
            Some(typed) => vec![typed.into()],
            None => (0..).map(|i| 1 << i).take_while(|n| *n <= THREADS_MAX && *n < 2 * cores).collect(),
        };
        let parallel = PARALLEL.into_iter().filter(|n| *n <= parallel_max).collect();
        let (part_bytes, chunk_bytes) = (PART_BYTES.into(), CHUNK_BYTES.into());
        Ok(Space { readers, parallel, part_bytes, chunk_bytes, threads, sample_bytes })
    }

    fn tell(&self, setting: &Setting, seen: &Seen) {
        let share = 1.0 - self.left().as_secs_f64() / self.typed.budget_time.as_secs_f64();
        self.bar.set_position((share * 1000.0) as u64);
        self.bar.set_message(format!("{}: {}", in_words(setting), rate(seen.bytes_per_second)));
    }

    fn made(&self, lab: &Lab, survey: Survey, sample_bytes: u64, found: Found, bytes: u64) -> Result<Profile, Failure> {
        let choice = |index: Option<usize>| index.and_then(|i| Choice::of(&found.tried[i]));
        let chosen = choice(found.chosen).ok_or_else(|| Failure {
            hint: Some("raise --budget-time or --budget-bytes"),
            ..Failure::usage("the budget is too small: not one upload came to its end within it")
        })?;
        Ok(Profile {
            format: FORMAT,
            haul: env!("CARGO_PKG_VERSION").into(),
            date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            endpoint: match &self.typed.shape {
                Some(shape) => format!("embedded store, {shape}"),
                None => lab.endpoint(),
            },
            machine: machine(survey.cores),
            sample_bytes,
            cold: self.typed.cold,
            chosen,
            runner_up: choice(found.runner_up),
            cost: Cost {
                bytes,
                seconds: self.begun.elapsed().as_secs_f64(),
                uploads: lab.uploads(),
                budget_bytes: self.typed.budget_bytes,
                budget_seconds: self.typed.budget_time.as_secs_f64(),
                ended: found.ended,
            },
            survey,
            tried: found.tried,
        })
    }
}

fn bar(quiet: bool) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    // Draws nothing where standard error is no terminal.
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    ProgressBar::with_draw_target(Some(1000), target).with_style(style)
}

/// Which machine a profile is of, for people.
fn machine(cores: u32) -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    format!("{}, {cores} cores of {}", name.trim(), model.unwrap_or("an unknown processor"))
}

/// `512 KiB`.
fn size(bytes: u64) -> String {
    BinaryBytes(bytes).to_string().replace(".00 ", " ")
}

/// `191.2 MB/s`, in powers of 1,000 as networks are sold.
fn rate(bytes_per_second: f64) -> String {
    if bytes_per_second < 1e9 {
        format!("{:.1} MB/s", bytes_per_second / 1e6)
    } else {
        format!("{:.2} GB/s", bytes_per_second / 1e9)
    }
}

fn in_words(setting: &Setting) -> String {
    match setting.parallel.zip(setting.part_bytes) {
        Some((parallel, bytes)) => format!("{parallel} in flight, parts of {}, reader {}", size(bytes), rest(setting)),
        None => format!("haul without a profile, {} threads", setting.threads),
    }
}

/// The same for a row of a plot.
fn briefly(setting: &Setting) -> String {
    match setting.parallel.zip(setting.part_bytes) {
        Some((parallel, bytes)) => format!("{parallel} × {}, {}", size(bytes), rest(setting)),
        None => format!("haul by itself, {} threads", setting.threads),
    }
}

/// How the file is read, and by how many threads.
fn rest(setting: &Setting) -> String {
    let reader = setting.reader.map_or("auto".to_owned(), |reader| reader.to_string());
    let chunks = setting.chunk_bytes.map_or(String::new(), |bytes| format!(", chunks of {}", size(bytes.into())));
    format!("{reader}{chunks}, {} threads", setting.threads)
}

fn with_interval(choice: &Choice) -> String {
    let interval = choice.interval.map(|[low, high]| format!(" ({} to {})", rate(low), rate(high)));
    rate(choice.bytes_per_second) + &interval.unwrap_or_else(|| " (one sample)".into())
}

fn why_it_ended(ended: Ended) -> &'static str {
    match ended {
        Ended::Decided => "more would not have decided more",
        Ended::OutOfBytes => "--budget-bytes was spent",
        Ended::OutOfTime => "--budget-time was spent",
    }
}

/// The measurement of haul without a profile that competed with the others.
fn automatic(profile: &Profile) -> Option<Choice> {
    let tried = profile.tried.iter().find(|tried| tried.setting.parallel.is_none())?;
    Choice::of(tried)
}

/// What the choice owes to the rule of taking the cheaper of equals, and whether it was worth the search.
fn verdict(profile: &Profile) -> String {
    let chosen = &profile.chosen;
    let mut words = Vec::new();
    if let Some(second) = profile.runner_up.as_ref().filter(|s| s.bytes_per_second > chosen.bytes_per_second) {
        let percent = (second.bytes_per_second / chosen.bytes_per_second - 1.0) * 100.0;
        let why =
            if chosen.setting.parallel.is_some() { "it costs more" } else { "a profile stays as the line changes" };
        words.push(format!("the runner-up's {percent:.1} % more may be chance, and {why}"));
    }
    let Some(own) = automatic(profile).filter(|own| own.setting != chosen.setting) else {
        return words.join("; ");
    };
    let ratio = chosen.bytes_per_second / own.bytes_per_second;
    words.push(match chosen.interval.zip(own.interval) {
        Some(([low, _], [_, high])) if high < low => format!("{ratio:.2} times what haul carries without a profile"),
        _ => "not measurably better than haul without a profile".to_owned(),
    });
    words.join("; ")
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1e3)
}

/// What was found, for a person.
fn summary(profile: &Profile) -> String {
    let Profile { survey, cost, chosen, .. } = profile;
    let mut rows = vec![
        ("endpoint", profile.endpoint.clone()),
        ("machine", profile.machine.clone()),
        ("each core", format!("CRC64 {}, encryption {}", rate(survey.crc64), rate(survey.encryption))),
        ("disk", rate(survey.disk)),
        (
            "line",
            format!(
                "an answer takes {}, a connection {}; one carries {}",
                milliseconds(survey.latency),
                milliseconds(survey.connection),
                rate(survey.one_connection)
            ),
        ),
        ("chosen", format!("{}: {}", in_words(&chosen.setting), with_interval(chosen))),
    ];
    if let Some(second) = &profile.runner_up {
        rows.push(("runner-up", format!("{}: {}", in_words(&second.setting), with_interval(second))));
    }
    if let Some(own) = automatic(profile).filter(|own| own.setting != chosen.setting) {
        rows.push(("automatic", format!("{}: {}", in_words(&own.setting), with_interval(&own))));
    }
    let words = verdict(profile);
    if !words.is_empty() {
        rows.push(("verdict", words));
    }
    let sent = BinaryBytes(cost.bytes);
    let ended = why_it_ended(cost.ended);
    rows.push(("cost", format!("{sent} sent in {} uploads, {:.1} s; {ended}", cost.uploads, cost.seconds)));
    rows.into_iter().map(|(name, value)| format!("{name:<11} {value}")).collect::<Vec<_>>().join("\n")
}
