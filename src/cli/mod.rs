//! The command line: what was typed, what it means for the library, and what a shell hears of the outcome.

pub mod args;
pub mod exit;
pub mod values;
