//! What a soak has seen, and how it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use haul::client::Uploaded;
use haul::error::Error;
use haul::model::event::Event;

use super::draw::Job;
use super::watch::{Usage, cpu_seconds, growths};

/// Names of the processes, in the order in which their usage is noted.
pub const PROCESSES: [&str; 3] = ["client", "store null", "store dir"];

#[derive(Default)]
pub struct Tally {
    /// What must not be.
    pub wrong: Vec<String>,
    /// Of every process, behind every upload.
    pub usage: [Vec<Usage>; 3],
    /// Ids of uploads that the client has told of.
    known: BTreeSet<String>,
    counts: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    bytes: u64,
    /// Seconds that the soak itself took of its process.
    own_cpu: f64,
}

impl Tally {
    pub fn count(&mut self, what: &str, number: usize) {
        *self.counts.entry(what.to_owned()).or_default() += number as u64;
    }

    pub fn knows(&self, upload_id: &str) -> bool {
        self.known.contains(upload_id)
    }

    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Initiated { upload_id } => {
                self.known.insert(upload_id.0.clone());
            }
            Event::Resumed { parts, .. } => {
                self.count("runs that went on", 1);
                self.count("parts found in the store by them", *parts as usize);
            }
            Event::StartedOver { .. } => self.count("runs that started over", 1),
            Event::Retrying { .. } => self.count("requests tried again", 1),
            Event::Hedged { .. } => self.count("parts sent on two connections", 1),
            Event::PartDone { .. } => self.count("parts confirmed", 1),
            Event::Warning { message } => self.wrong.push(format!("a warning: {message}")),
            _ => {}
        }
    }

    /// A run came to its end.
    pub fn ended(&mut self, result: &Result<Uploaded, Error>) {
        self.count("runs", 1);
        let Err(error) = result else { return };
        let name = match error {
            Error::Exchange { operation, fault, .. } => {
                format!("{operation}: {:?} {}", fault.kind, fault.code.as_deref().unwrap_or_default())
            }
            // The name alone: numbers differ from run to run.
            other => format!("{other:?}").split([' ', '(']).next().unwrap_or_default().to_owned(),
        };
        *self.errors.entry(name).or_default() += 1;
    }

    /// An upload came to its end: done, or cancelled for good.
    pub fn note(&mut self, job: &Job, result: Result<bool, String>, usage: [Usage; 3]) {
        match result {
            Ok(true) => {
                self.count("uploads done and compared", 1);
                self.bytes += job.bytes;
            }
            Ok(false) => self.count("uploads cancelled for good", 1),
            Err(why) => self.wrong.push(format!("{job:?}: {why}")),
        }
        for (series, usage) in self.usage.iter_mut().zip(usage) {
            series.push(usage);
        }
    }

    pub fn own_cpu(&mut self, seconds: f64) {
        self.own_cpu += seconds;
    }

    /// Tells everything.
    ///
    /// - `processes`: their ids, in the order of [`PROCESSES`].
    /// - `log`: what the stores have noted of their faults.
    pub fn print(&self, wall: Duration, processes: [u32; 3], log: &Path) {
        let gib = self.bytes as f64 / f64::from(1 << 30);
        println!("{gib:.1} GiB in {:.0} s", wall.as_secs_f64());
        for (what, number) in &self.counts {
            println!("{number:>8} {what}");
        }
        for (process, pid) in PROCESSES.iter().zip(processes) {
            let own = if pid == std::process::id() { self.own_cpu } else { 0.0 };
            let cpu = cpu_seconds(&pid.to_string()) - own;
            println!("{process}: {cpu:.0} CPU-s, {:.2} CPU-s/GiB", cpu / gib);
        }
        println!("\n| process | holds | first quarter -> last, medians |\n|---|---|--:|");
        for (process, usage) in PROCESSES.iter().zip(&self.usage) {
            for (what, growth) in growths(usage) {
                println!("| {process} | {what} | {growth} |");
            }
        }
        println!("\nruns that did not end well:");
        for (error, number) in &self.errors {
            println!("{number:>8} {error}");
        }
        println!("\nfaults:");
        for (fault, number) in injected(log) {
            println!("{number:>8} {fault}");
        }
    }
}

/// How often each fault happened, by the log of the stores.
fn injected(log: &Path) -> BTreeMap<String, u64> {
    let mut faults = BTreeMap::new();
    for line in std::fs::read_to_string(log).expect("there were faults").lines() {
        let entry: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let what = entry["rule"].as_str().and_then(|rule| rule.splitn(3, ':').nth(2)).expect("a rule").to_owned();
        *faults.entry(what).or_default() += 1;
    }
    faults
}
