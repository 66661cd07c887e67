//! The progress of an upload: bytes, rate, time left, parts; and once all is sent, what is still waited for, and how long.
//!
//! On a terminal it is a bar. Where there is none and it is wanted all the same (`--progress always`), it is lines.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use haul::model::event::{Event, Progress};
use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::ProgressWhen;

const SENDING: &str =
    "{bar:30} {binary_bytes:>11} / {binary_total_bytes} {binary_bytes_per_sec:>13} {eta:>4} left, parts {msg}";
/// All is sent: a rate would fall, and the time left be nothing, for as long as the store takes.
const WAITING: &str = "{bar:30} {binary_bytes:>11} / {binary_total_bytes}, {msg}";
/// How often a line is written where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where an upload is shown.
pub struct Bar {
    shown: Shown,
    parts_resumed: u32,
    phase: Phase,
    since: Instant,
}

enum Shown {
    Bar(ProgressBar),
    /// When the next line is due.
    Lines(Instant),
    Nowhere,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Sending,
    Confirming,
    Merging,
    Verifying,
    Rereading,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Confirming => "waiting for the store",
            Self::Merging => "merging",
            Self::Verifying => "verifying",
            Self::Rereading => "re-reading the file",
        }
    }
}

impl Bar {
    pub fn new(when: ProgressWhen, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let shown = match when {
            ProgressWhen::Always if !terminal => Shown::Lines(Instant::now()),
            ProgressWhen::Always => Shown::Bar(bar()),
            ProgressWhen::Auto if terminal && !quiet => Shown::Bar(bar()),
            _ => Shown::Nowhere,
        };
        Self { shown, parts_resumed: 0, phase: Phase::Sending, since: Instant::now() }
    }

    /// Takes in what happened.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::Completing { .. } => self.enter(Phase::Merging),
            Event::Rereading { .. } => self.enter(Phase::Rereading),
            Event::StartedOver { .. } => self.enter(Phase::Sending),
            _ => {}
        }
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase == phase {
            return;
        }
        (self.phase, self.since) = (phase, Instant::now());
        match &mut self.shown {
            Shown::Bar(bar) => bar.set_style(style(if phase == Phase::Sending { SENDING } else { WAITING })),
            Shown::Lines(due) => *due = self.since,
            Shown::Nowhere => {}
        }
    }

    /// - `verifying`: the store is asked what it has.
    pub fn update(&mut self, now: Progress, verifying: bool) {
        let all_sent = now.bytes_total > 0 && now.bytes_sent == now.bytes_total;
        match self.phase {
            Phase::Sending if all_sent => self.enter(Phase::Confirming),
            Phase::Confirming if !all_sent => self.enter(Phase::Sending),
            Phase::Merging if verifying => self.enter(Phase::Verifying),
            _ => {}
        }
        let waiting = format!("{} for {:.0} s", self.phase.name(), self.since.elapsed().as_secs_f64());
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_length(now.bytes_total);
                bar.set_position(now.bytes_sent);
                if now.parts_resumed != self.parts_resumed {
                    // What an earlier run sent says nothing about the rate of this one.
                    self.parts_resumed = now.parts_resumed;
                    bar.reset_eta();
                }
                bar.set_message(match self.phase {
                    Phase::Sending => format!("{}/{}", now.parts_done, now.parts_total),
                    _ => waiting,
                });
            }
            Shown::Lines(due) if Instant::now() >= *due => {
                *due = Instant::now() + LINE_EVERY;
                super::report::say(line(now, &waiting));
            }
            _ => {}
        }
    }

    /// Prints a line on standard error without tearing the bar.
    pub fn say(&self, line: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| super::report::say(line)),
            _ => super::report::say(line),
        }
    }

    pub fn end(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style(SENDING))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn line(now: Progress, phase: &str) -> String {
    let Progress { bytes_sent, bytes_total, parts_done, parts_total, .. } = now;
    let (sent, total) = (BinaryBytes(bytes_sent), BinaryBytes(bytes_total));
    format!("{sent} of {total} sent, {parts_done} of {parts_total} parts done; {phase}")
}
