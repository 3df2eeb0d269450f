//! `fgctl`: the command line of FastGate.
//!
//! [`run`] reads the command line, carries it out and prints an error once, if there is one.
//! Commands talk gRPC to a control plane and nothing else; `dev` runs both planes in this process.

mod cli;
mod client;
mod commands;
mod context;
mod dev;
mod document;
mod endpoint;
mod error;
mod output;
mod schema;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;

use crate::{context::Surroundings, output::Output};

/// How a command ended that met no error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It is done.
    Done,
    /// `diff` found that something would change.
    Differs,
    /// `doctor` found that something is worrying.
    Worrying,
    /// `doctor` found that something is broken.
    Failing,
}

/// Carries out one command line and says how it ended: 0 done, 1 an error or, for `doctor`, something
/// broken, 2 bad usage or, for `diff`, a difference, for `doctor` something worrying.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(wrong) => {
            // Help and version come this way too. Nothing is left to do when they can't be printed.
            let _ = wrong.print();
            return ExitCode::from(u8::try_from(wrong.exit_code()).unwrap_or(2));
        }
    };
    let form = cli.global.output;
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let mut output = Output::new(form, &mut out, &mut err);
    let result = commands::run(cli, &Surroundings::of_process(), &mut output);
    // A reader that went away early, such as `head`, had what it wanted.
    let result = match result.and_then(|outcome| output.flush().map(|()| outcome)) {
        Err(error) if error.is_broken_pipe() => Ok(Outcome::Done),
        result => result,
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Differs | Outcome::Worrying) => ExitCode::from(2),
        Ok(Outcome::Failing) => ExitCode::FAILURE,
        Err(error) => {
            let _ = write!(io::stderr(), "{}", error.report());
            ExitCode::from(error.exit_code())
        }
    }
}
