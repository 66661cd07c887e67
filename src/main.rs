//! `haul`: parse, dispatch, exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use cli::args::{Cli, Command};
use haul::error::Error;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("haul: {error}");
            if let Some(hint) = cli::exit::hint(&error) {
                eprintln!("  {hint}");
            }
            ExitCode::from(cli::exit::code(&error))
        }
    }
}

fn run(typed: &Cli) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| Error::System { what: "start the runtime", cause })?;
    match &typed.command {
        Command::Put(put) => {
            let client = cli::connect::client(&put.connect, |name| std::env::var(name).ok())?;
            runtime.block_on(cli::put::run(put, &client, typed.quiet))
        }
    }
}
