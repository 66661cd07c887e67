//! The command line: what was typed, what it means for the library, and what a shell hears of the outcome.
//!
//! | file | subject |
//! |---|---|
//! | `args.rs`, `values.rs` | what was typed |
//! | `connect.rs`, `local.rs` | which store, and who asks |
//! | `put.rs`, `stat.rs`, `verify.rs`, `checkpoint.rs`, `uploads.rs`, `credentials.rs`, `serve.rs`, `tune/` | one command each |
//! | `tuned.rs` | what `tune` found, for `put` |
//! | `report.rs`, `progress.rs` | what is printed |
//! | `output.rs` | standard output and standard error, which nobody may be reading |
//! | `signals.rs`, `panics.rs` | how a run ends early |
//! | `core_dumps.rs` | what a crash must not leave behind |
//! | `heap.rs` | freed memory that is kept for what comes next |
//! | `exit.rs` | exit codes, and what to do next |

pub mod args;
pub mod checkpoint;
pub mod connect;
pub mod core_dumps;
pub mod credentials;
pub mod exit;
mod file;
pub mod heap;
mod local;
pub mod output;
pub mod panics;
mod progress;
pub mod put;
pub mod report;
pub mod serve;
pub mod signals;
pub mod stat;
pub mod tune;
mod tuned;
pub mod uploads;
mod values;
pub mod verify;
