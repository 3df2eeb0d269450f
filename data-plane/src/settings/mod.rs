//! The settings of a node: YAML file, then environment, then flags; the last one wins.

mod audit;
mod given;
mod parse;

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use clap::Parser as _;
use fastgate::{
    model::{Id, Labels},
    settings::Mistakes,
};
use http::Uri;
use thiserror::Error;

pub use self::audit::AuditSettings;
use self::{
    given::{Flags, Given},
    parse::{
        parse_address, parse_body_size, parse_control_planes, parse_count, parse_labels,
        parse_networks, parse_seconds,
    },
};
use crate::{
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
    /// What holds a join token, for control planes that ask for a certificate.
    pub join_token_file: Option<PathBuf>,
    /// Where limits are counted together with other nodes; `None`: in this process.
    pub redis: Option<RedisSettings>,
    /// How clients are told where their limits stand.
    pub limit_headers: LimitHeaders,
    /// Where the last good snapshot and the audit spool are kept; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// How audit events are kept until they are stored.
    pub audit: AuditSettings,
    /// Threads that serve requests.
    pub workers: NonZeroUsize,
    /// Names the node in the control plane and in audit events.
    pub node_id: Id,
    /// What rollouts tell the node apart by.
    pub labels: Labels,
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
            join_token_file: None,
            redis: None,
            limit_headers: LimitHeaders::default(),
            state_dir: None,
            audit: AuditSettings::default(),
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            node_id,
            labels: Labels::default(),
            trusted_proxies: Vec::new(),
            max_body_size: None,
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            grace_time: Duration::from_secs(30),
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

    fn check(mut given: Given) -> Result<Self, Mistakes> {
        let mut found = Mistakes::default();
        let audit = audit::check(&mut found, &mut given);
        let listen = found.take("--listen", given.listen, parse_address);
        let environment = found.take("--environment", given.environment, Id::parse);
        let node_id = found.take("--node-id", given.node_id, Id::parse);
        let port = listen.map_or(Self::PROXY_PORT, |address| address.port());
        let node_id = node_id.map_or_else(|| default_node_id(port), Ok);
        let node_id = node_id.map_err(|fault| Mistakes::one(format!("--node-id {fault}")))?;

        let mut settings = Self::new(environment.unwrap_or_else(Id::default_environment), node_id);
        settings.listen = listen.unwrap_or(settings.listen);
        let Self { ops_addr, workers, labels, trusted_proxies, limit_headers, .. } = &mut settings;
        found.put("--ops-addr", given.ops_addr, parse_address, ops_addr);
        found.put("--workers", given.workers, parse_count, workers);
        found.put("--labels", given.labels, parse_labels, labels);
        found.put("--trusted-proxies", given.trusted_proxies, parse_networks, trusted_proxies);
        found.put("--limit-headers", given.limit_headers, str::parse, limit_headers);
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
        settings.join_token_file = given.join_token_file;
        let max_body_size = found.take("--max-body-size", given.max_body_size, parse_body_size);
        settings.max_body_size = max_body_size.flatten();
        settings.redis = check_redis(&mut found, given.redis_url, given.redis_ca);
        settings.audit = audit;
        settings.state_dir = given.state_dir;
        settings.check_control_planes(&mut found);
        settings.tls = check_tls(&mut found, given.tls_listen, given.tls_cert, given.tls_key);
        found.or(settings)
    }

    /// What goes with control planes that speak TLS.
    fn check_control_planes(&self, found: &mut Mistakes) {
        let are_secured = self.control_planes.iter().any(|uri| uri.scheme_str() == Some("https"));
        if are_secured && self.state_dir.is_none() {
            found.add(
                "--state-dir is missing: control planes with https ask for a certificate, which is \
                 kept there",
            );
        }
        if self.join_token_file.is_some() && !are_secured {
            found.add(
                "--join-token-file is for control planes with https: give such with \
                 --control-plane, or leave it out",
            );
        }
    }
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
    use crate::audit::WhenFull;

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
        let text = "listen: 127.0.0.1:1\nworkers: 3\ngrace_time: 1.5\nenvironment: prod\n";
        let file = file(&format!("{text}labels: tier=canary, zone=eu-1\n"));
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
        assert_eq!(settings.labels.to_string(), "tier=canary,zone=eu-1");
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
            "--labels=tier",
        ]);
        let flags: Vec<_> = found.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(flags.len(), 15, "{found:#?}");
        assert!(!found.join("\n").contains("hidden"), "{found:#?}");
    }

    #[test]
    fn the_spool_has_a_size_and_an_end() {
        let given = ["--state-dir=d", "--spool-limit=2MiB", "--spool-full=drop"];
        let audit = load(&given).expect("valid").audit;
        assert_eq!((audit.spool_limit, audit.spool_full), (2 << 20, WhenFull::Drop));
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
    fn plain_text_is_for_control_planes_on_this_machine() {
        for (urls, is_sound) in [
            ("http://127.0.0.1:9001,http://localhost:1,http://[::1]:9001,http://127.1.2.3:1", true),
            ("http://10.0.0.5:9001", false),
            ("http://cp.internal:9001", false),
            ("http://localhost.evil:9001", false),
            ("http://[::ffff:10.0.0.5]:9001", false),
            ("https://cp.internal:9001,http://127.0.0.1:9001", true),
            ("https://", false),
            ("cp.internal:9001", false),
        ] {
            let loaded = load(&[&format!("--control-plane={urls}"), "--state-dir=d"]);
            assert_eq!(loaded.is_ok(), is_sound, "{urls}");
        }
        let found = mistakes(&["--control-plane=http://cp.internal:9001"]).join("\n");
        assert!(found.contains("give https://cp.internal:9001"), "{found}");
    }

    #[test]
    fn https_asks_for_a_place_to_keep_a_certificate() {
        let found = mistakes(&["--control-plane=https://cp:9001"]);
        assert!(found.join("\n").starts_with("--state-dir is missing: "), "{found:?}");
        let found = mistakes(&["--control-plane=http://127.0.0.1:9001", "--join-token-file=t"]);
        assert!(found.join("\n").starts_with("--join-token-file is for "), "{found:?}");
    }

    #[test]
    fn a_ca_is_for_a_redis_with_tls() {
        let found = mistakes(&["--redis-ca=ca.pem"]);
        assert!(found.join("\n").starts_with("--redis-url is missing: "), "{found:?}");
        let found = mistakes(&["--redis-ca=ca.pem", "--redis-url=redis+cluster://h"]);
        assert!(found.join("\n").starts_with("--redis-ca is for TLS: "), "{found:?}");
    }
}
