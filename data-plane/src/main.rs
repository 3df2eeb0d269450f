//! The data plane node as a program: settings, log, build, run, drain.

use std::{
    error::Error,
    io::{self, IsTerminal as _},
    process::ExitCode,
    thread,
};

use fastgate::settings::log_filter;
use fastgate_data_plane::{Server, Settings, SettingsError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The settings are wrong; trying again without changing them is useless.
const BAD_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    let settings = match Settings::load(std::env::args_os()) {
        Ok(settings) => settings,
        Err(SettingsError::Usage(usage)) => usage.exit(),
        Err(mistakes @ SettingsError::Mistakes(_)) => {
            eprintln!("{mistakes}");
            return ExitCode::from(BAD_SETTINGS);
        }
    };
    let said = std::env::var("FASTGATE_LOG").ok();
    let filter = match log_filter(said.as_deref(), "info") {
        Ok(filter) => filter,
        Err(mistake) => {
            eprintln!("{mistake}");
            return ExitCode::from(BAD_SETTINGS);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        // A log that can't be written must not end the thread that writes to it.
        .log_internal_errors(false)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    let server = Server::build(settings)?;
    let addresses = server.addresses();
    let tls = addresses.tls.map(tracing::field::display);
    tracing::info!(proxy = %addresses.proxy, tls, ops = %addresses.ops, "listening");
    let stop = CancellationToken::new();
    stop_at_signals(&stop)?;
    server.run(stop)?;
    tracing::info!("stopped");
    Ok(())
}

/// Cancels `stop` at SIGTERM or SIGINT, which a thread of its own waits for.
fn stop_at_signals(stop: &CancellationToken) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = runtime.block_on(async {
        Ok::<_, io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    })?;
    let stop = stop.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        stop.cancel();
        tracing::info!("stopping");
    })?;
    Ok(())
}
