//! The settings of a node: YAML file, then environment, then flags; the last one wins.

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser};
use fastgate::{
    model::Id,
    settings::{Mistakes, from_yaml},
};
use http::Uri;
use serde::Deserialize;
use thiserror::Error;

use crate::{
    audit::WhenFull,
    limit_headers::LimitHeaders,
    limits::{RedisAddress, RedisSettings},
    network::Network,
};

/// The settings of a node, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the proxy listens; port 0 picks one.
    pub listen: SocketAddr,
    /// Where the proxy speaks TLS; `None`: nowhere.
    pub tls: Option<TlsSettings>,
    /// Where `/health`, `/ready` and `/metrics` are; port 0 picks one.
    pub ops_addr: SocketAddr,
    /// The environment the node serves.
    pub environment: Id,
    /// Where control planes take the config and audit streams; none: serve what is on disk.
    pub control_planes: Vec<Uri>,
    /// Where limits are counted together with other nodes; `None`: in this process.
    pub redis: Option<RedisSettings>,
    /// How clients are told where their limits stand.
    pub limit_headers: LimitHeaders,
    /// Where the last good snapshot and the audit spool are kept; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// The most bytes the audit spool may take.
    pub spool_limit: u64,
    /// What becomes of requests that come while the spool is full.
    pub spool_full: WhenFull,
    /// Threads that serve requests.
    pub workers: NonZeroUsize,
    /// Names the node in the control plane and in audit events.
    pub node_id: Id,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Larger request bodies are refused with 413; `None`: no bound.
    pub max_body_size: Option<u64>,
    /// How long a client may take to send a request head.
    pub header_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub keep_alive_timeout: Duration,
    /// How long a client may pause while it sends a request body, or takes an answer.
    pub body_timeout: Duration,
    /// How long requests under way may go on after the node was asked to stop.
    pub grace_time: Duration,
    /// Audit events kept per worker until they are shipped; further ones are dropped and counted.
    pub audit_queue: NonZeroUsize,
}

/// A second listener of the proxy, for TLS.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Where it listens; port 0 picks one.
    pub listen: SocketAddr,
    /// The file of the certificate and those that signed it.
    pub cert: PathBuf,
    /// The file of its key.
    pub key: PathBuf,
}

impl Settings {
    /// Where the proxy listens where nothing else is said.
    pub const PROXY_PORT: u16 = 8000;

    /// What holds where nothing else is said, for a node of this name.
    #[must_use]
    pub fn new(environment: Id, node_id: Id) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, Self::PROXY_PORT)),
            tls: None,
            ops_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 9100)),
            environment,
            control_planes: Vec::new(),
            redis: None,
            limit_headers: LimitHeaders::default(),
            state_dir: None,
            spool_limit: 1 << 30,
            spool_full: WhenFull::Block,
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            node_id,
            trusted_proxies: Vec::new(),
            max_body_size: None,
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            grace_time: Duration::from_secs(30),
            audit_queue: NonZeroUsize::new(8192).unwrap_or(NonZeroUsize::MIN),
        }
    }
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
        let listen = found.take("--listen", given.listen, parse_address);
        let environment = found.take("--environment", given.environment, Id::parse);
        let node_id = found.take("--node-id", given.node_id, Id::parse);
        let port = listen.map_or(Self::PROXY_PORT, |address| address.port());
        let node_id = node_id.map_or_else(|| default_node_id(port), Ok);
        let node_id = node_id.map_err(|fault| Mistakes::one(format!("--node-id {fault}")))?;

        let mut settings = Self::new(environment.unwrap_or_else(Id::default_environment), node_id);
        settings.listen = listen.unwrap_or(settings.listen);
        let Self { ops_addr, workers, trusted_proxies, limit_headers, audit_queue, .. } =
            &mut settings;
        found.put("--ops-addr", given.ops_addr, parse_address, ops_addr);
        found.put("--workers", given.workers, parse_count, workers);
        found.put("--trusted-proxies", given.trusted_proxies, parse_networks, trusted_proxies);
        found.put("--limit-headers", given.limit_headers, str::parse, limit_headers);
        found.put("--audit-queue", given.audit_queue, parse_count, audit_queue);
        for (flag, text, place) in [
            ("--header-timeout", given.header_timeout, &mut settings.header_timeout),
            ("--keep-alive-timeout", given.keep_alive_timeout, &mut settings.keep_alive_timeout),
            ("--body-timeout", given.body_timeout, &mut settings.body_timeout),
            ("--grace-time", given.grace_time, &mut settings.grace_time),
        ] {
            found.put(flag, text, parse_seconds, place);
        }
        let planes = found.take("--control-plane", given.control_plane, parse_control_planes);
        settings.control_planes = planes.unwrap_or_default();
        let max_body_size = found.take("--max-body-size", given.max_body_size, parse_body_size);
        settings.max_body_size = max_body_size.flatten();
        settings.redis = check_redis(&mut found, given.redis_url, given.redis_ca);
        settings.state_dir = given.state_dir;
        let of_spool = [("--spool-limit", &given.spool_limit), ("--spool-full", &given.spool_full)];
        for (flag, _) in of_spool.iter().filter(|(_, given)| given.is_some()) {
            if settings.state_dir.is_none() {
                found.add(format!("--state-dir is missing: give it, or leave {flag} out"));
            }
        }
        let Self { spool_limit, spool_full, .. } = &mut settings;
        found.put("--spool-limit", given.spool_limit, parse_spool_limit, spool_limit);
        found.put("--spool-full", given.spool_full, parse_when_full, spool_full);
        settings.tls = check_tls(&mut found, given.tls_listen, given.tls_cert, given.tls_key);
        found.or(settings)
    }
}

/// What flags, environment or file give. Flags are all text, so that every mistake is found here
/// and not the first one by clap.
#[derive(Args, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    /// Where the proxy listens [default: 0.0.0.0:8000]
    #[arg(long, value_name = "ADDRESS", env = "FASTGATE_LISTEN")]
    listen: Option<String>,
    /// Where the proxy speaks TLS, beside --listen; asks for --tls-cert and --tls-key
    #[arg(long, value_name = "ADDRESS", env = "FASTGATE_TLS_LISTEN")]
    tls_listen: Option<String>,
    /// The certificate in PEM, then those that signed it; read anew when the file changes
    #[arg(long, value_name = "FILE", env = "FASTGATE_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key in PEM
    #[arg(long, value_name = "FILE", env = "FASTGATE_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Where /health, /ready and /metrics are [default: 127.0.0.1:9100]
    #[arg(long, value_name = "ADDRESS", env = "FASTGATE_OPS_ADDR")]
    ops_addr: Option<String>,
    /// The environment to serve [default: default]
    #[arg(long, value_name = "ID", env = "FASTGATE_ENVIRONMENT")]
    environment: Option<String>,
    /// Where control planes take nodes, such as http://127.0.0.1:9001; the preferred one first
    #[arg(long, value_name = "URL[,URL]", env = "FASTGATE_CONTROL_PLANE")]
    control_plane: Option<String>,
    /// Where limits are counted together with other nodes; without it, in this process
    #[arg(long, value_name = "URL", env = "FASTGATE_REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// The certificates that Redis's own must be signed by, in PEM [default: those browsers trust]
    #[arg(long, value_name = "FILE", env = "FASTGATE_REDIS_CA")]
    redis_ca: Option<PathBuf>,
    /// What tells clients where limits stand: draft-10, draft-06, x-ratelimit or none [default: draft-10]
    #[arg(long, value_name = "KIND[,KIND]", env = "FASTGATE_LIMIT_HEADERS")]
    limit_headers: Option<String>,
    /// Where the last good configuration and the audit spool are kept; without it, a start needs a
    /// control plane, and audit events are in memory alone
    #[arg(long, value_name = "FOLDER", env = "FASTGATE_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Bytes of disk for audit events that are not stored yet, such as 1GiB [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "FASTGATE_SPOOL_LIMIT")]
    spool_limit: Option<String>,
    /// What to do while those are used up: block (answer 503) or drop (serve, and count what is
    /// lost) [default: block]
    #[arg(long, value_name = "KIND", env = "FASTGATE_SPOOL_FULL")]
    spool_full: Option<String>,
    /// Threads that serve requests [default: one for each core]
    #[arg(long, value_name = "COUNT", env = "FASTGATE_WORKERS")]
    workers: Option<String>,
    /// Names the node, the same after a restart [default: the host's name and the proxy's port]
    #[arg(long, value_name = "ID", env = "FASTGATE_NODE_ID")]
    node_id: Option<String>,
    /// Peers whose X-Forwarded-* headers are believed, such as 10.0.0.0/8
    #[arg(long, value_name = "NETWORK[,NETWORK]", env = "FASTGATE_TRUSTED_PROXIES")]
    trusted_proxies: Option<String>,
    /// The largest request body, in bytes or such as 8MiB; 0 for no bound [default: 0]
    #[arg(long, value_name = "SIZE", env = "FASTGATE_MAX_BODY_SIZE")]
    max_body_size: Option<String>,
    /// Seconds a client may take to send a request head [default: 10]
    #[arg(long, value_name = "SECONDS", env = "FASTGATE_HEADER_TIMEOUT")]
    header_timeout: Option<String>,
    /// Seconds a connection may be idle between requests [default: 75]
    #[arg(long, value_name = "SECONDS", env = "FASTGATE_KEEP_ALIVE_TIMEOUT")]
    keep_alive_timeout: Option<String>,
    /// Seconds a client may pause while it sends a body or takes an answer [default: 30]
    #[arg(long, value_name = "SECONDS", env = "FASTGATE_BODY_TIMEOUT")]
    body_timeout: Option<String>,
    /// Seconds requests under way may go on after the node was asked to stop [default: 30]
    #[arg(long, value_name = "SECONDS", env = "FASTGATE_GRACE_TIME")]
    grace_time: Option<String>,
    /// Audit events each worker keeps until they are shipped [default: 8192]
    #[arg(long, value_name = "COUNT", env = "FASTGATE_AUDIT_QUEUE")]
    audit_queue: Option<String>,
}

/// The command line of a node.
#[derive(Parser)]
#[command(
    name = "fastgate-data-plane",
    version,
    about = "A data plane node of FastGate",
    allow_negative_numbers = true
)]
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
            listen: self.listen.or(other.listen),
            tls_listen: self.tls_listen.or(other.tls_listen),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            ops_addr: self.ops_addr.or(other.ops_addr),
            environment: self.environment.or(other.environment),
            control_plane: self.control_plane.or(other.control_plane),
            redis_url: self.redis_url.or(other.redis_url),
            redis_ca: self.redis_ca.or(other.redis_ca),
            limit_headers: self.limit_headers.or(other.limit_headers),
            state_dir: self.state_dir.or(other.state_dir),
            spool_limit: self.spool_limit.or(other.spool_limit),
            spool_full: self.spool_full.or(other.spool_full),
            workers: self.workers.or(other.workers),
            node_id: self.node_id.or(other.node_id),
            trusted_proxies: self.trusted_proxies.or(other.trusted_proxies),
            max_body_size: self.max_body_size.or(other.max_body_size),
            header_timeout: self.header_timeout.or(other.header_timeout),
            keep_alive_timeout: self.keep_alive_timeout.or(other.keep_alive_timeout),
            body_timeout: self.body_timeout.or(other.body_timeout),
            grace_time: self.grace_time.or(other.grace_time),
            audit_queue: self.audit_queue.or(other.audit_queue),
        }
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("is no address: '{text}': give one such as 127.0.0.1:8000"))
}

/// All three settings of TLS, or none.
fn check_tls(
    found: &mut Mistakes,
    listen: Option<String>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Option<TlsSettings> {
    let given = [
        ("--tls-listen", listen.is_some()),
        ("--tls-cert", cert.is_some()),
        ("--tls-key", key.is_some()),
    ];
    let are_given = given.iter().any(|(_, is_given)| *is_given);
    for (flag, _) in given.iter().filter(|(_, is_given)| are_given && !is_given) {
        found.add(format!(
            "{flag} is missing: give --tls-listen, --tls-cert and --tls-key, or none of them"
        ));
    }
    let listen = found.take("--tls-listen", listen, parse_address)?;
    Some(TlsSettings { listen, cert: cert?, key: key? })
}

fn parse_count(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| format!("is '{text}': give a number from 1 on"))
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=86_400.0).contains(seconds));
    let mend = || format!("is '{text}': give seconds above 0 and at most 86400");
    seconds.map(Duration::from_secs_f64).ok_or_else(mend)
}

/// Bytes, or so many KiB, MiB or GiB.
fn parse_bytes(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let with_unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = with_unit.unwrap_or((text, 0));
    number.trim_end().parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn parse_body_size(text: &str) -> Result<Option<u64>, String> {
    let bytes = parse_bytes(text);
    let bytes = bytes.ok_or_else(|| format!("is '{text}': give bytes, such as 8MiB, or 0"))?;
    Ok((bytes > 0).then_some(bytes))
}

fn parse_spool_limit(text: &str) -> Result<u64, String> {
    let mend = || format!("is '{text}': give at least 1MiB, such as 1GiB");
    parse_bytes(text).filter(|bytes| *bytes >= 1 << 20).ok_or_else(mend)
}

fn parse_when_full(text: &str) -> Result<WhenFull, String> {
    match text {
        "block" => Ok(WhenFull::Block),
        "drop" => Ok(WhenFull::Drop),
        _ => Err(format!("is '{text}': give block or drop")),
    }
}

fn parse_networks(text: &str) -> Result<Vec<Network>, String> {
    let parse = |text: &str| Network::parse(text.trim()).map_err(|fault| format!("has {fault}"));
    text.split(',').map(parse).collect()
}

fn parse_control_planes(text: &str) -> Result<Vec<Uri>, String> {
    let parse = |text: &str| {
        let mend = || format!("is no URL: '{text}': give one such as http://127.0.0.1:9001");
        let uri: Uri = text.trim().parse().map_err(|_| mend())?;
        match uri.scheme_str() {
            Some("http") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
            Some("https") => Err("asks for https, which is not supported yet: use http".into()),
            _ => Err(mend()),
        }
    };
    text.split(',').map(parse).collect()
}

/// Where Redis is, and who signs its certificates.
fn check_redis(
    found: &mut Mistakes,
    url: Option<String>,
    ca: Option<PathBuf>,
) -> Option<RedisSettings> {
    if url.is_none() && ca.is_some() {
        found.add("--redis-url is missing: give it, or leave --redis-ca out");
    }
    let parse = |text: &str| RedisAddress::parse(text).map_err(|fault| fault.to_string());
    let address = found.take("--redis-url", url, parse)?;
    if ca.is_some() && !address.is_tls() {
        found.add("--redis-ca is for TLS: begin --redis-url with rediss, or leave --redis-ca out");
    }
    Some(RedisSettings { address, ca })
}

/// The host's name and the proxy's port: the same after a restart, and apart from another node of
/// the same machine.
fn default_node_id(port: u16) -> Result<Id, String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.trim().chars().map(fits).take(50).collect();
    let name = name.trim_matches('-');
    let id = if name.is_empty() { format!("node-{port}") } else { format!("{name}-{port}") };
    Id::parse(&id).map_err(|_| "can't be made from the host's name: set it".into())
}

#[cfg(test)]
mod tests {
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
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = file("listen: 127.0.0.1:1\nworkers: 3\ngrace_time: 1.5\nenvironment: prod\n");
        let path = file.path().to_str().expect("text");
        let args =
            ["--config", path, "--listen", "127.0.0.1:2", "--trusted-proxies", "::1,10.0.0.0/8"];
        let settings = load(&args).expect("valid");
        assert_eq!(settings.listen.to_string(), "127.0.0.1:2");
        assert_eq!(settings.ops_addr.to_string(), "127.0.0.1:9100");
        assert_eq!(settings.workers.get(), 3);
        assert_eq!(settings.grace_time, Duration::from_millis(1500));
        assert_eq!(settings.environment.as_str(), "prod");
        assert!(settings.node_id.as_str().ends_with("-2"), "{:?}", settings.node_id);
        assert_eq!(settings.trusted_proxies.len(), 2);
    }

    #[test]
    fn the_example_is_valid() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/node.yaml");
        let settings = load(&["--config", path]).expect("valid");
        assert_eq!(settings.node_id.as_str(), "node-1");
    }

    #[test]
    fn all_mistakes_come_at_once() {
        let found = mistakes(&[
            "--listen=here",
            "--ops-addr=:1",
            "--workers=0",
            "--control-plane=http://a:1,ftp://b",
            "--trusted-proxies=10.0.0.0/33",
            "--grace-time=-1",
            "--header-timeout=NaN",
            "--max-body-size=lots",
            "--redis-url=postgres://u:hidden@h",
            "--limit-headers=x-limit",
            "--spool-limit=1023KiB",
            "--spool-full=wait",
        ]);
        let flags: Vec<_> = found.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(flags.len(), 14, "{found:#?}");
        assert!(!found.join("\n").contains("hidden"), "{found:#?}");
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("3KiB", Some(3 << 10)),
            ("2 GiB", Some(2 << 30)),
            ("17179869184GiB", None),
            ("1GB", None),
            ("GiB", None),
            ("-1", None),
            ("1.5GiB", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
        let given = ["--state-dir=d", "--spool-limit=2MiB", "--spool-full=drop"];
        let settings = load(&given).expect("valid");
        assert_eq!((settings.spool_limit, settings.spool_full), (2 << 20, WhenFull::Drop));
    }

    #[test]
    fn tls_takes_three_settings_or_none() {
        let all = ["--tls-listen=127.0.0.1:0", "--tls-cert=c.pem", "--tls-key=k.pem"];
        let settings = load(&all).expect("valid").tls.expect("given");
        assert_eq!(settings.listen.port(), 0);
        assert_eq!((settings.cert, settings.key), ("c.pem".into(), "k.pem".into()));
        let file = file("tls_listen: 127.0.0.1:0\ntls_cert: c.pem\ntls_key: k.pem\n");
        assert!(
            load(&["--config", file.path().to_str().expect("text")]).expect("valid").tls.is_some()
        );
        assert!(load(&[]).expect("valid").tls.is_none());
        for (given, told) in [
            (&all[..2], &["--tls-key is missing: "][..]),
            (&all[1..], &["--tls-listen is missing: "]),
            (&all[2..], &["--tls-listen is missing: ", "--tls-cert is missing: "]),
            (
                &["--tls-listen=here"],
                &["--tls-cert is", "--tls-key is", "--tls-listen is no address"],
            ),
        ] {
            let found = mistakes(given);
            assert_eq!(found.len(), told.len(), "{found:?}");
            assert!(
                found.iter().zip(told).all(|(found, told)| found.starts_with(told)),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_fault_in_the_file_is_named_with_file_and_line_and_shows_no_secret() {
        let file = file("redis_url: redis://:hidden@h\nlisen: x\n");
        let path = file.path().to_str().expect("text");
        let found = mistakes(&["--config", path]).join("\n");
        assert!(found.starts_with(&format!("{path}:2: unknown field 'lisen'")), "{found}");
        assert!(!found.contains("hidden"), "{found}");
    }

    #[test]
    fn where_redis_is_is_kept_and_its_password_never_shown() {
        let url = "rediss+sentinel://u:hidden@127.0.0.1/mymaster?sentinel_password=hidden";
        let settings = load(&["--redis-url", url, "--redis-ca", "ca.pem"]).expect("valid");
        let redis = settings.redis.as_ref().expect("kept");
        assert_eq!((redis.address.is_tls(), &redis.ca), (true, &Some("ca.pem".into())));
        assert!(!format!("{settings:?}").contains("hidden"));
    }

    #[test]
    fn a_ca_is_for_a_redis_with_tls() {
        let found = mistakes(&["--redis-ca=ca.pem"]);
        assert!(found.join("\n").starts_with("--redis-url is missing: "), "{found:?}");
        let found = mistakes(&["--redis-ca=ca.pem", "--redis-url=redis+cluster://h"]);
        assert!(found.join("\n").starts_with("--redis-ca is for TLS: "), "{found:?}");
    }
}
