//! The settings of a control plane: YAML file, then environment, then flags; the last one wins.

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser};
use fastgate::settings::{Mistakes, from_yaml};
use secrecy::SecretString;
use serde::Deserialize;
use thiserror::Error;

const DAY: Duration = Duration::from_secs(86_400);

/// The settings of a control plane, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is kept: `postgres://...` or `sqlite://...`.
    pub database_url: SecretString,
    /// Where people and `fgctl` call; port 0 picks one.
    pub admin_addr: SocketAddr,
    /// Where nodes connect; port 0 picks one.
    pub node_addr: SocketAddr,
    /// Where the first owner token is written while no owner exists.
    pub bootstrap_token_file: Option<PathBuf>,
    /// How long audit events are kept, and what is counted of them by the minute.
    pub keep_events: Duration,
    /// How long what is counted of them by the hour and the day is kept.
    pub keep_metrics: Duration,
}

/// Why there are no settings to start with.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The command line asks for help or can't be read; clap says what.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// Everything that is wrong with the settings.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

impl Settings {
    /// What holds where nothing else is said, for this database.
    #[must_use]
    pub fn new(database_url: SecretString) -> Self {
        Self {
            database_url,
            admin_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)),
            node_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 9001)),
            bootstrap_token_file: None,
            keep_events: 30 * DAY,
            keep_metrics: 400 * DAY,
        }
    }

    /// Reads flags (after the program's name), `FASTGATE_*` of the environment and the file they name.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(args: impl IntoIterator<Item = OsString>) -> Result<Self, SettingsError> {
        let flags = Flags::try_parse_from(args)?;
        let file = flags.config.as_deref().map(Given::read).transpose()?;
        Ok(Self::check(flags.given.or(file.unwrap_or_default()))?)
    }

    fn check(given: Given) -> Result<Self, Mistakes> {
        let mut found = Mistakes::default();
        let url = Some(given.database_url.unwrap_or_default());
        let url = found.take("--database-url", url, parse_database_url);
        let mut settings = Self::new(url.unwrap_or_default());
        found.put("--admin-addr", given.admin_addr, parse_address, &mut settings.admin_addr);
        found.put("--node-addr", given.node_addr, parse_address, &mut settings.node_addr);
        settings.bootstrap_token_file = given.bootstrap_token_file;
        found.put("--keep-events", given.keep_events, parse_days, &mut settings.keep_events);
        found.put("--keep-metrics", given.keep_metrics, parse_days, &mut settings.keep_metrics);
        found.or(settings)
    }
}

/// What flags, environment or file give. Flags are all text, so that every mistake is found here
/// and not the first one by clap.
#[derive(Args, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    /// Where everything is kept: postgres://user:password@host/database or sqlite:///path/to/file
    #[arg(long, value_name = "URL", env = "FASTGATE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Where people and fgctl call [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDRESS", env = "FASTGATE_ADMIN_ADDR")]
    admin_addr: Option<String>,
    /// Where nodes connect [default: 127.0.0.1:9001]
    #[arg(long, value_name = "ADDRESS", env = "FASTGATE_NODE_ADDR")]
    node_addr: Option<String>,
    /// Where to write an owner token while no owner exists
    #[arg(long, value_name = "FILE", env = "FASTGATE_BOOTSTRAP_TOKEN_FILE")]
    bootstrap_token_file: Option<PathBuf>,
    /// Days audit events are kept, and metrics by the minute [default: 30]
    #[arg(long, value_name = "DAYS", env = "FASTGATE_KEEP_EVENTS")]
    keep_events: Option<String>,
    /// Days metrics by the hour and the day are kept [default: 400]
    #[arg(long, value_name = "DAYS", env = "FASTGATE_KEEP_METRICS")]
    keep_metrics: Option<String>,
}

/// The command line of a control plane.
#[derive(Parser)]
#[command(name = "fastgate-control-plane", version, about = "The control plane of FastGate")]
struct Flags {
    /// YAML file with the same settings, named with underscores
    #[arg(long, value_name = "FILE", env = "FASTGATE_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

impl Given {
    fn read(path: &Path) -> Result<Self, Mistakes> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|fault| Mistakes::one(format!("--config: can't read {name}: {fault}")))?;
        from_yaml(&name, &text)
    }

    /// What is given here, and what `other` gives for the rest.
    fn or(self, other: Self) -> Self {
        Self {
            database_url: self.database_url.or(other.database_url),
            admin_addr: self.admin_addr.or(other.admin_addr),
            node_addr: self.node_addr.or(other.node_addr),
            bootstrap_token_file: self.bootstrap_token_file.or(other.bootstrap_token_file),
            keep_events: self.keep_events.or(other.keep_events),
            keep_metrics: self.keep_metrics.or(other.keep_metrics),
        }
    }
}

fn parse_database_url(url: &str) -> Result<SecretString, String> {
    if url.is_empty() {
        return Err("is missing: give one such as postgres://user:password@host/database".into());
    }
    let schemes = ["postgres://", "postgresql://", "sqlite:"];
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        // What was given may be a secret all the same: it is not repeated.
        return Err("must start with postgres://, postgresql:// or sqlite:".into());
    }
    Ok(url.into())
}

fn parse_days(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(days @ 1..=36_500) => Ok(days * DAY),
        _ => Err(format!("is '{text}': give days, from 1 to 36500")),
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| format!("is no address: '{text}': give one such as 127.0.0.1:9000"))?;
    if !address.ip().is_loopback() {
        return Err(format!(
            "is '{text}', which others can reach, and there is no TLS yet: use 127.0.0.1:{} \
             and put a TLS proxy or tunnel before it",
            address.port()
        ));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn load(args: &[&str]) -> Result<Settings, SettingsError> {
        Settings::load(std::iter::once("test").chain(args.iter().copied()).map(OsString::from))
    }

    fn mistakes(args: &[&str]) -> Vec<String> {
        match load(args) {
            Err(SettingsError::Mistakes(mistakes)) => mistakes.iter().map(str::to_owned).collect(),
            other => panic!("no mistakes: {other:?}"),
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    #[test]
    fn defaults_listen_on_loopback() {
        let settings = load(&["--database-url", "sqlite::memory:"]).expect("valid");
        assert_eq!(settings.admin_addr.to_string(), "127.0.0.1:9000");
        assert_eq!(settings.node_addr.to_string(), "127.0.0.1:9001");
    }

    #[test]
    fn flags_win_over_the_file() {
        let file =
            file("database_url: sqlite:a\nadmin_addr: 127.0.0.1:1\nnode_addr: 127.0.0.1:2\n");
        let path = file.path().to_str().expect("text");
        let settings = load(&["--config", path, "--node-addr", "[::1]:3"]).expect("valid");
        assert_eq!(settings.database_url.expose_secret(), "sqlite:a");
        assert_eq!(settings.admin_addr.to_string(), "127.0.0.1:1");
        assert_eq!(settings.node_addr.to_string(), "[::1]:3");
    }

    #[test]
    fn the_example_is_valid() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/control-plane.yaml");
        let settings = load(&["--config", path]).expect("valid");
        assert!(settings.bootstrap_token_file.is_some());
    }

    #[test]
    fn all_mistakes_come_at_once() {
        let found = mistakes(&["--admin-addr", "here", "--node-addr", "0.0.0.0:9001"]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("--database-url is missing"), "{found:?}");
        assert!(found[1].contains("'here'"), "{found:?}");
        assert!(found[2].contains("no TLS"), "{found:?}");
    }

    #[test]
    fn an_unknown_field_is_named_with_file_and_line() {
        let file = file("database_url: postgres://u:hidden@h/d\nadmin_adr: 127.0.0.1:1\n");
        let path = file.path().to_str().expect("text");
        let found = mistakes(&["--config", path]).join("\n");
        assert!(found.starts_with(&format!("{path}:2: unknown field 'admin_adr'")), "{found}");
        assert!(!found.contains("hidden"), "{found}");
    }

    #[test]
    fn the_database_url_is_never_shown() {
        let settings = load(&["--database-url", "postgres://u:hidden@h/d"]).expect("valid");
        assert!(!format!("{settings:?}").contains("hidden"));
        let found = mistakes(&["--database-url", "mysql://u:hidden@h/d"]).join("\n");
        assert!(!found.contains("hidden"), "{found}");
    }
}
