//! The progress bar: bytes, rate, time left, parts.

use std::io::IsTerminal;

use haul::model::event::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::ProgressWhen;

const STYLE: &str =
    "{bar:30} {binary_bytes:>11} / {binary_total_bytes} {binary_bytes_per_sec:>13} {eta:>4} left, parts {msg}";

/// A bar on standard error, or one that is never drawn.
pub struct Bar {
    bar: ProgressBar,
    parts_resumed: u32,
}

impl Bar {
    pub fn new(when: ProgressWhen, quiet: bool) -> Self {
        let drawn = match when {
            ProgressWhen::Always => true,
            ProgressWhen::Never => false,
            ProgressWhen::Auto => std::io::stderr().is_terminal() && !quiet,
        };
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: ProgressBar::with_draw_target(Some(0), target).with_style(style), parts_resumed: 0 }
    }

    pub fn update(&mut self, now: Progress) {
        self.bar.set_length(now.bytes_total);
        self.bar.set_position(now.bytes_sent);
        if now.parts_resumed != self.parts_resumed {
            // What an earlier run sent says nothing about the rate of this one.
            self.parts_resumed = now.parts_resumed;
            self.bar.reset_eta();
        }
        self.bar.set_message(format!("{}/{}", now.parts_done, now.parts_total));
    }

    /// Prints a line on standard error without tearing the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| super::report::say(line));
    }

    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}
