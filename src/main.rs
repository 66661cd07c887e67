//! `haul`: parse, dispatch, exit code.

mod cli;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use cli::args::{Checkpoint, Cli, Command, Uploads};
use cli::exit::Failure;
use cli::report;

fn main() -> ExitCode {
    cli::core_dumps::forbid();
    cli::heap::be_patient();
    cli::panics::end_the_process();
    let typed = match Cli::try_parse() {
        Ok(typed) => typed,
        Err(answer) => return told(&answer),
    };
    start_tracing(typed.verbose, matches!(typed.command, Command::Serve(_)));
    if typed.quiet {
        report::be_quiet();
    }
    let done = cli::signals::handle().map_err(Failure::signals).and_then(|()| run(&typed));
    if let Err(failure) = &done {
        report::failure(failure, wants_events(&typed.command));
    }
    let unread = report::unread();
    if let Some(failure) = &unread {
        report::failure(failure, false);
    }
    done.err().or(unread).map_or(ExitCode::SUCCESS, |failure| ExitCode::from(failure.code))
}

/// Help and versions are answers; everything else is a command that cannot work.
fn told(answer: &clap::Error) -> ExitCode {
    let told = answer.print().and_then(|()| std::io::stdout().flush());
    let code = if told.is_err() && !answer.use_stderr() { cli::exit::OTHER.into() } else { answer.exit_code() };
    ExitCode::from(code as u8)
}

fn run(typed: &Cli) -> Result<(), Failure> {
    match &typed.command {
        Command::Put(put) => cli::put::run(put, typed.quiet, typed.verbose),
        Command::Stat { url, connect, json } => cli::stat::run(url, connect, *json),
        Command::Verify { file, url, receipt, connect } => {
            cli::verify::run(file, url.as_ref(), receipt.as_deref(), connect, typed.quiet)
        }
        Command::Checkpoint(Checkpoint::Show { path, json }) => cli::checkpoint::show(path, *json),
        Command::Uploads(Uploads::List { url, connect, json }) => cli::uploads::list(url, connect, *json),
        Command::Uploads(Uploads::Abort { url, connect, upload_id, older_than }) => {
            cli::uploads::abort(url, connect, upload_id.as_ref(), *older_than, typed.quiet)
        }
        Command::Credentials { connect, json } => cli::credentials::run(connect, *json),
        Command::Tune(tune) => cli::tune::run(tune, typed.quiet),
        Command::Serve(serve) => Ok(cli::serve::run(serve)?),
    }
}

/// Whether a failure is also told as an event on standard output.
fn wants_events(command: &Command) -> bool {
    matches!(command, Command::Put(put) if put.json)
}

/// `-vv` shows everything that happens; a server warns unasked. No event carries a secret.
fn start_tracing(verbose: u8, is_server: bool) {
    let level = match verbose {
        0 | 1 if is_server => "haul=warn",
        0 | 1 => return,
        2 => "haul=debug",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::new(level);
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal).with_writer(|| cli::output::Log).init();
}
