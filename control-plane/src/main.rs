//! The control plane as a program: settings, log, build, run, drain.

use std::{error::Error, io::IsTerminal as _, process::ExitCode};

use fastgate::settings::log_filter;
use fastgate_control_plane::{Server, Settings, SettingsError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

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
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    let stop = CancellationToken::new();
    let server = Server::build(settings).await?;
    let addresses = server.addresses();
    tracing::info!(admin = %addresses.admin, node = %addresses.node, "listening");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        asked.cancel();
        tracing::info!("stopping");
    });
    server.run(stop).await;
    tracing::info!("stopped");
    Ok(())
}
