//! `haul`: parse, dispatch, exit code.

mod cli;

fn main() {}
