//! The command line: what was typed, what it means for the library, and what a shell hears of the outcome.

pub mod args;
pub mod connect;
pub mod exit;
pub mod put;
pub mod values;
