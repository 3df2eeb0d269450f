//! The commands: a file per noun. Each reads its options into one request, or a few, and shows
//! the answer.

mod config;
mod context;
mod doctor;
mod envs;
mod explain;
mod fields;
mod keys;
mod limits;
mod logs;
mod metrics;
mod nodes;
mod plans;
mod rollout;
mod routes;
mod tokens;
mod upstreams;

use std::time::Duration;

use clap::CommandFactory as _;

use crate::{
    Outcome,
    cli::{Cli, Command, Global, KeyCommand},
    client::Client,
    context::{Connection, Surroundings},
    dev,
    error::Error,
    output::Output,
};

/// Objects asked for in one request of a list.
const PAGE: u32 = 1000;

/// Carries out one command.
pub(crate) fn run(
    cli: Cli,
    around: &Surroundings,
    output: &mut Output<'_>,
) -> Result<Outcome, Error> {
    match cli.command {
        Command::Context(command) => context::run(command, &cli.global, around, output),
        Command::Completions { shell } => completions(shell, output),
        Command::Dev(args) => dev::run(args, around, output).map(|()| Outcome::Done),
        remote => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(Error::Start)?;
            runtime.block_on(run_remote(remote, &cli.global, around, output))
        }
    }
}

async fn run_remote(
    command: Command,
    global: &Global,
    around: &Surroundings,
    output: &mut Output<'_>,
) -> Result<Outcome, Error> {
    let connection = Connection::resolve(global, around)?;
    let connect = async || {
        Client::connect(&connection, Duration::from_secs_f64(global.request_timeout)).await
    };
    match command.unabridged() {
        Command::Keys(KeyCommand::Import { file, secrets_out, check }) => {
            keys::import(&file, secrets_out, check, connect, output).await?;
        }
        Command::Keys(command) => keys::run(command, &connect().await?, output).await?,
        Command::Routes(command) => routes::run(command, &connect().await?, output).await?,
        Command::Upstreams(command) => upstreams::run(command, &connect().await?, output).await?,
        Command::Limits(command) => limits::run(command, &connect().await?, output).await?,
        Command::Plans(command) => plans::run(command, &connect().await?, output).await?,
        Command::Envs(command) => envs::run(command, &connect().await?, output).await?,
        Command::Rollout(command) => rollout::run(command, &connect().await?, output).await?,
        Command::Nodes(args) => nodes::run(args, &connect().await?, output).await?,
        Command::Explain(args) => explain::run(args, &connect().await?, output).await?,
        Command::Logs(command) => logs::run(command, &connect().await?, output).await?,
        Command::Metrics(args) => metrics::run(args, &connect().await?, output).await?,
        Command::Tokens(command) => tokens::run(command, &connect().await?, output).await?,
        Command::Doctor(args) => return doctor::run(args, &connection, connect, output).await,
        Command::Config(command) => {
            return config::run(command, &connection, connect, output).await;
        }
        // `run` has some of these, and the others stand for commands of `config`.
        Command::Context(_)
        | Command::Completions { .. }
        | Command::Dev(_)
        | Command::Apply(_)
        | Command::Sync(_)
        | Command::Validate(_)
        | Command::Diff(_)
        | Command::Export(_) => {}
    }
    Ok(Outcome::Done)
}

fn completions(shell: clap_complete::Shell, output: &mut Output<'_>) -> Result<Outcome, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fgctl", &mut script);
    output.text(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}

/// At most `limit` items of a list, page by page, and whether there are more. `page` takes how
/// many to ask for and where to go on.
async fn pages<T>(
    limit: u32,
    mut page: impl AsyncFnMut(i32, String) -> Result<(Vec<T>, String), Error>,
) -> Result<(Vec<T>, bool), Error> {
    let limit = limit as usize;
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let size = (limit - all.len()).min(PAGE as usize);
        let (items, next) = page(i32::try_from(size).unwrap_or(i32::MAX), token).await?;
        all.extend(items);
        let more = !next.is_empty() || all.len() > limit;
        if all.len() >= limit || next.is_empty() {
            all.truncate(limit);
            return Ok((all, more));
        }
        token = next;
    }
}

#[cfg(test)]
mod tests;
