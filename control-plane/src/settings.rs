//! The settings of a control plane: YAML file, then environment, then flags; the last one wins.

use std::{
    ffi::OsString,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser};
use fastgate::settings::{Mistakes, from_yaml, parse_bytes};
use jiff::{Span, SpanRelativeTo};
use secrecy::SecretString;
use serde::Deserialize;
use thiserror::Error;

use crate::identity::NodeCa;

const DAY: Duration = Duration::from_secs(86_400);

/// The settings of a control plane, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is kept: `postgres://...` or `sqlite://...`.
    pub database_url: SecretString,
    /// Where people and `fgctl` call; port 0 picks one.
    pub admin_addr: SocketAddr,
    /// What it shows over TLS; `None`: it is plain text.
    pub admin_tls: Option<AdminTls>,
    /// Where nodes connect; port 0 picks one.
    pub node_addr: SocketAddr,
    /// What signs the certificates nodes show there; `None`: it is plain text.
    pub node_ca: Option<NodeCa>,
    /// Where the first owner token is written while no owner exists.
    pub bootstrap_token_file: Option<PathBuf>,
    /// How long audit events are kept, and what is counted of them by the minute.
    pub keep_events: Duration,
    /// How long what is counted of them by the hour and the day is kept.
    pub keep_metrics: Duration,
    /// Bytes of a day of audit events in Postgres above which days to come are kept by the hour.
    pub hourly_above: u64,
}

/// The files of the admin port's certificate.
#[derive(Clone, Debug)]
pub struct AdminTls {
    /// The certificate and those that signed it.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
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
            admin_tls: None,
            node_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 9001)),
            node_ca: None,
            bootstrap_token_file: None,
            keep_events: 30 * DAY,
            keep_metrics: 400 * DAY,
            hourly_above: 32 << 30,
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
        let is_tls = given.admin_tls_cert.is_some() || given.admin_tls_key.is_some();
        let parse = if is_tls { parse_any_address } else { parse_admin_address };
        found.put("--admin-addr", given.admin_addr, parse, &mut settings.admin_addr);
        settings.admin_tls = check_admin_tls(&mut found, given.admin_tls_cert, given.admin_tls_key);
        let parse =
            if given.node_ca_dir.is_some() { parse_any_address } else { parse_node_address };
        found.put("--node-addr", given.node_addr, parse, &mut settings.node_addr);
        settings.node_ca = check_node_ca(
            &mut found,
            given.node_ca_dir,
            given.node_names,
            given.node_certificate_life,
        );
        settings.bootstrap_token_file = given.bootstrap_token_file;
        found.put("--keep-events", given.keep_events, parse_days, &mut settings.keep_events);
        found.put("--keep-metrics", given.keep_metrics, parse_days, &mut settings.keep_metrics);
        found.put("--hourly-above", given.hourly_above, parse_day_size, &mut settings.hourly_above);
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
    /// PEM file of the certificate the admin port shows, then those that signed it; with it the port
    /// speaks TLS
    #[arg(long, value_name = "FILE", env = "FASTGATE_ADMIN_TLS_CERT")]
    admin_tls_cert: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, value_name = "FILE", env = "FASTGATE_ADMIN_TLS_KEY")]
    admin_tls_key: Option<PathBuf>,
    /// Where nodes connect [default: 127.0.0.1:9001]
    #[arg(long, value_name = "ADDRESS", env = "FASTGATE_NODE_ADDR")]
    node_addr: Option<String>,
    /// The folder of the CA that signs nodes' certificates, made if it is empty; with it the node port
    /// speaks TLS
    #[arg(long, value_name = "FOLDER", env = "FASTGATE_NODE_CA_DIR")]
    node_ca_dir: Option<PathBuf>,
    /// What nodes call this control plane by, such as cp.internal,10.0.0.5 [default: what it is bound
    /// to, and this machine]
    #[arg(long, value_name = "NAME[,NAME]", env = "FASTGATE_NODE_NAMES")]
    node_names: Option<String>,
    /// How long the certificate of a node holds, such as 30d or 12h [default: 30d]
    #[arg(long, value_name = "TIME", env = "FASTGATE_NODE_CERTIFICATE_LIFE")]
    node_certificate_life: Option<String>,
    /// Where to write an owner token while no owner exists
    #[arg(long, value_name = "FILE", env = "FASTGATE_BOOTSTRAP_TOKEN_FILE")]
    bootstrap_token_file: Option<PathBuf>,
    /// Days audit events are kept, and metrics by the minute [default: 30]
    #[arg(long, value_name = "DAYS", env = "FASTGATE_KEEP_EVENTS")]
    keep_events: Option<String>,
    /// Days metrics by the hour and the day are kept [default: 400]
    #[arg(long, value_name = "DAYS", env = "FASTGATE_KEEP_METRICS")]
    keep_metrics: Option<String>,
    /// Bytes of a day of audit events, indexes included, above which Postgres keeps days to come by the
    /// hour, such as 32GiB [default: 32GiB]
    #[arg(long, value_name = "BYTES", env = "FASTGATE_HOURLY_ABOVE")]
    hourly_above: Option<String>,
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
            admin_tls_cert: self.admin_tls_cert.or(other.admin_tls_cert),
            admin_tls_key: self.admin_tls_key.or(other.admin_tls_key),
            node_addr: self.node_addr.or(other.node_addr),
            node_ca_dir: self.node_ca_dir.or(other.node_ca_dir),
            node_names: self.node_names.or(other.node_names),
            node_certificate_life: self.node_certificate_life.or(other.node_certificate_life),
            bootstrap_token_file: self.bootstrap_token_file.or(other.bootstrap_token_file),
            keep_events: self.keep_events.or(other.keep_events),
            keep_metrics: self.keep_metrics.or(other.keep_metrics),
            hourly_above: self.hourly_above.or(other.hourly_above),
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

fn parse_day_size(text: &str) -> Result<u64, String> {
    let mend = || format!("is '{text}': give at least 1MiB, such as 32GiB");
    parse_bytes(text).filter(|bytes| *bytes >= 1 << 20).ok_or_else(mend)
}

fn parse_any_address(text: &str) -> Result<SocketAddr, String> {
    let mend = || format!("is no address: '{text}': give one such as 127.0.0.1:9000");
    text.parse().map_err(|_| mend())
}

fn parse_admin_address(text: &str) -> Result<SocketAddr, String> {
    let mend = "give --admin-tls-cert and --admin-tls-key, with which it speaks TLS";
    parse_loopback(text, "it is plain text", mend)
}

fn parse_node_address(text: &str) -> Result<SocketAddr, String> {
    parse_loopback(text, "it is plain text", "give --node-ca-dir, with which it speaks TLS")
}

fn parse_loopback(text: &str, why: &str, mend: &str) -> Result<SocketAddr, String> {
    let address = parse_any_address(text)?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    let port = address.port();
    Err(format!("is '{text}', which others can reach, and {why}: use 127.0.0.1:{port}, or {mend}"))
}

/// Both files, or none.
fn check_admin_tls(
    found: &mut Mistakes,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Option<AdminTls> {
    let missing = match (&cert, &key) {
        (Some(_), None) => "--admin-tls-key",
        (None, Some(_)) => "--admin-tls-cert",
        _ => return Some(AdminTls { cert: cert?, key: key? }),
    };
    let told = "is missing: give --admin-tls-cert and --admin-tls-key, or neither";
    found.add(format!("{missing} {told}"));
    None
}

/// The CA, where there is one; what goes with it asks for it.
fn check_node_ca(
    found: &mut Mistakes,
    dir: Option<PathBuf>,
    names: Option<String>,
    life: Option<String>,
) -> Option<NodeCa> {
    let given = [("--node-names", names.is_some()), ("--node-certificate-life", life.is_some())];
    for (flag, _) in given.iter().filter(|(_, is_given)| dir.is_none() && *is_given) {
        found.add(format!("--node-ca-dir is missing: give it, or leave {flag} out"));
    }
    let mut ca = NodeCa::new(dir.unwrap_or_default());
    found.put("--node-names", names, parse_names, &mut ca.names);
    found.put("--node-certificate-life", life, parse_life, &mut ca.certificate_life);
    (!ca.dir.as_os_str().is_empty()).then_some(ca)
}

/// Hosts and addresses, as they stand in URLs.
fn parse_names(text: &str) -> Result<Vec<String>, String> {
    let parse = |name: &str| {
        let name = name.trim();
        let fits = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        let is_host = !name.is_empty() && name.len() <= 253 && name.chars().all(fits);
        if is_host || name.parse::<IpAddr>().is_ok() {
            return Ok(name.to_owned());
        }
        Err(format!("has '{name}': give hosts or addresses, such as cp.internal,10.0.0.5"))
    };
    text.split(',').map(parse).collect()
}

/// Long enough to be renewed in time, and no longer than a CA holds.
fn parse_life(text: &str) -> Result<Duration, String> {
    let mend = || format!("is '{text}': give a time from 10s to 3650d, such as 30d or 12h");
    let span: Span = text.parse().map_err(|_| mend())?;
    let life = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| mend())?;
    let life = Duration::try_from(life).map_err(|_| mend())?;
    if (Duration::from_secs(10)..=3650 * DAY).contains(&life) { Ok(life) } else { Err(mend()) }
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
        assert!(found[2].contains("plain text"), "{found:?}");
        assert!(found[2].contains("--node-ca-dir"), "{found:?}");
    }

    #[test]
    fn a_certificate_opens_the_admin_port_to_others() {
        let given = [
            "--database-url=sqlite::memory:",
            "--admin-addr=0.0.0.0:9000",
            "--admin-tls-cert=cert.pem",
            "--admin-tls-key=key.pem",
        ];
        let settings = load(&given).expect("valid");
        assert_eq!(settings.admin_addr.to_string(), "0.0.0.0:9000");
        let tls = settings.admin_tls.expect("TLS");
        assert_eq!((tls.cert, tls.key), ("cert.pem".into(), "key.pem".into()));
        let found = mistakes(&given[..2]).join("\n");
        assert!(found.starts_with("--admin-addr is '0.0.0.0:9000'"), "{found}");
        assert!(found.contains("plain text") && found.contains("give --admin-tls-cert"), "{found}");
        for (one, missing) in [(2, "--admin-tls-key"), (3, "--admin-tls-cert")] {
            let found = mistakes(&[given[0], given[1], given[one]]);
            assert!(found.len() == 1 && found[0].starts_with(missing), "{found:?}");
        }
    }

    #[test]
    fn a_ca_opens_the_node_port_to_others() {
        let given = [
            "--database-url=sqlite::memory:",
            "--node-addr=0.0.0.0:9001",
            "--node-ca-dir=ca",
            "--node-names=cp.internal, 10.0.0.5,::1",
            "--node-certificate-life=90s",
        ];
        let settings = load(&given).expect("valid");
        let ca = settings.node_ca.expect("a CA");
        assert_eq!(settings.node_addr.to_string(), "0.0.0.0:9001");
        assert_eq!(ca.names, ["cp.internal", "10.0.0.5", "::1"]);
        assert_eq!(ca.certificate_life, Duration::from_secs(90));
        let ca = load(&given[..3]).expect("valid").node_ca.expect("a CA");
        assert_eq!((ca.names.len(), ca.certificate_life), (0, 30 * DAY));
    }

    #[test]
    fn what_goes_with_a_ca_is_refused_without_one_and_when_wrong() {
        let alone =
            ["--database-url=sqlite::memory:", "--node-names=a", "--node-certificate-life=1d"];
        let found = mistakes(&alone);
        assert!(found.iter().all(|told| told.starts_with("--node-ca-dir is missing")), "{found:?}");
        assert_eq!(found.len(), 2);
        for (flag, value) in [
            ("--node-names", "a_b"),
            ("--node-names", "a,,b"),
            ("--node-names", "http://a"),
            ("--node-certificate-life", "9s"),
            ("--node-certificate-life", "30"),
            ("--node-certificate-life", "11y"),
            ("--node-certificate-life", "-1d"),
        ] {
            let given = format!("{flag}={value}");
            let found = mistakes(&["--database-url=sqlite::memory:", "--node-ca-dir=ca", &given]);
            assert!(found.len() == 1 && found[0].starts_with(flag), "{given}: {found:?}");
        }
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
