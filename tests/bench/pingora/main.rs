//! The gateway a user of Pingora writes for the work of this benchmark.
//!
//! `pingora CONFIG` serves until it is told to end. The config is JSON, which is YAML too: Pingora
//! reads its own settings from the file, and [`Settings`] are the rest of it.

mod clients;
mod gateway;
mod records;

use std::{env, error::Error, fs, path::PathBuf};

use mimalloc::MiMalloc;
use pingora_core::{
    apps::HttpServerOptions,
    listeners::{L4BufferSettings, ListenerConfig},
    server::{Server, configuration::ServerConf},
};
use pingora_proxy::http_proxy_service;
use serde::Deserialize;

use crate::{clients::Clients, gateway::Gateway, records::Records};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What Pingora has no settings for.
#[derive(Deserialize)]
struct Settings {
    /// For HTTP/1.1 and HTTP/2 without TLS.
    listen: String,
    listen_tls: String,
    certificate: String,
    private_key: String,
    /// The address of the service behind it.
    upstream: String,
    /// Stripped from paths; what does not begin with it is not found.
    prefix: String,
    /// A file with a secret and the source path it was issued to on each line.
    keys: PathBuf,
    /// Requests a minute for each key.
    limit: u64,
    /// The file records are appended to.
    records: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let config = env::args().nth(1).ok_or("usage: pingora CONFIG")?;
    if config == "--version" {
        println!("pingora {}", version());
        return Ok(());
    }
    let settings: Settings = serde_json::from_slice(&fs::read(&config)?)?;
    let mut server = Server::new_with_opt_and_conf(None, ServerConf::load_from_yaml(&config)?);
    server.bootstrap();

    let gateway = Gateway::new(
        settings.prefix,
        settings.upstream,
        Clients::read(&settings.keys, settings.limit)?,
        Records::open(&settings.records)?,
    );
    let mut service = http_proxy_service(&server.configuration, gateway);
    if let Some(proxy) = service.app_logic_mut() {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        proxy.server_options = Some(options);
    }
    // HTTP reads into buffers of its own; the one below it pays with TLS, which reads in bits.
    let unbuffered = L4BufferSettings::default().read(0);
    service.add_listener(ListenerConfig::tcp(settings.listen).l4_buffer(unbuffered));
    service.add_tls(&settings.listen_tls, &settings.certificate, &settings.private_key)?;
    server.add_service(service);
    server.run_forever()
}

/// Pingora's, as it was locked: it does not tell by itself.
fn version() -> &'static str {
    let (_, behind) = include_str!("Cargo.lock")
        .split_once("\"pingora-proxy\"\nversion = \"")
        .unwrap_or_default();
    behind.split('"').next().unwrap_or_default()
}
