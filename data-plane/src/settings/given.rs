//! What flags, environment and file give, before anything of it is checked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Parser};
use fastgate::settings::{Mistakes, from_yaml};
use serde::Deserialize;

/// What flags, environment or file give. Flags are all text, so that every mistake is found here
/// and not the first one by clap.
#[derive(Args, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Given {
    /// Where the proxy listens [default: 0.0.0.0:8000]
    #[arg(long, value_name = "ADDRESS", env = "FASTGATE_LISTEN")]
    pub(super) listen: Option<String>,
    /// Where the proxy speaks TLS, beside --listen; asks for --tls-cert and --tls-key
    #[arg(long, value_name = "ADDRESS", env = "FASTGATE_TLS_LISTEN")]
    pub(super) tls_listen: Option<String>,
    /// The certificate in PEM, then those that signed it; read anew when the file changes
    #[arg(long, value_name = "FILE", env = "FASTGATE_TLS_CERT")]
    pub(super) tls_cert: Option<PathBuf>,
    /// The certificate's key in PEM
    #[arg(long, value_name = "FILE", env = "FASTGATE_TLS_KEY")]
    pub(super) tls_key: Option<PathBuf>,
    /// Where /health, /ready and /metrics are [default: 127.0.0.1:9100]
    #[arg(long, value_name = "ADDRESS", env = "FASTGATE_OPS_ADDR")]
    pub(super) ops_addr: Option<String>,
    /// The environment to serve [default: default]
    #[arg(long, value_name = "ID", env = "FASTGATE_ENVIRONMENT")]
    pub(super) environment: Option<String>,
    /// Where control planes take nodes, such as https://cp.internal:9001; the preferred one first.
    /// http is for this machine alone
    #[arg(long, value_name = "URL[,URL]", env = "FASTGATE_CONTROL_PLANE")]
    pub(super) control_plane: Option<String>,
    /// A file with a token from "fgctl nodes tokens create", for https: it is used once, after that the
    /// certificate in the state directory counts
    #[arg(long, value_name = "FILE", env = "FASTGATE_JOIN_TOKEN_FILE")]
    pub(super) join_token_file: Option<PathBuf>,
    /// Where limits are counted together with other nodes; without it, in this process
    #[arg(long, value_name = "URL", env = "FASTGATE_REDIS_URL", hide_env_values = true)]
    pub(super) redis_url: Option<String>,
    /// The certificates that Redis's own must be signed by, in PEM [default: those browsers trust]
    #[arg(long, value_name = "FILE", env = "FASTGATE_REDIS_CA")]
    pub(super) redis_ca: Option<PathBuf>,
    /// What tells clients where limits stand: draft-10, draft-06, x-ratelimit or none [default: draft-10]
    #[arg(long, value_name = "KIND[,KIND]", env = "FASTGATE_LIMIT_HEADERS")]
    pub(super) limit_headers: Option<String>,
    /// Where the last good configuration and the audit spool are kept; without it, a start needs a
    /// control plane, and audit events are in memory alone
    #[arg(long, value_name = "FOLDER", env = "FASTGATE_STATE_DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// Bytes of disk for audit events that are not stored yet, such as 1GiB [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "FASTGATE_SPOOL_LIMIT")]
    pub(super) spool_limit: Option<String>,
    /// What to do while those are used up: block (answer 503) or drop (serve, and count what is
    /// lost) [default: block]
    #[arg(long, value_name = "KIND", env = "FASTGATE_SPOOL_FULL")]
    pub(super) spool_full: Option<String>,
    /// Threads that serve requests [default: one for each core]
    #[arg(long, value_name = "COUNT", env = "FASTGATE_WORKERS")]
    pub(super) workers: Option<String>,
    /// Names the node, the same after a restart [default: the host's name and the proxy's port]
    #[arg(long, value_name = "ID", env = "FASTGATE_NODE_ID")]
    pub(super) node_id: Option<String>,
    /// What nodes are told apart by in rollouts, such as tier=canary,zone=eu-1
    #[arg(long, value_name = "NAME=VALUE[,NAME=VALUE]", env = "FASTGATE_LABELS")]
    pub(super) labels: Option<String>,
    /// Peers whose X-Forwarded-* headers are believed, such as 10.0.0.0/8
    #[arg(long, value_name = "NETWORK[,NETWORK]", env = "FASTGATE_TRUSTED_PROXIES")]
    pub(super) trusted_proxies: Option<String>,
    /// The largest request body, in bytes or such as 8MiB; 0 for no bound [default: 0]
    #[arg(long, value_name = "SIZE", env = "FASTGATE_MAX_BODY_SIZE")]
    pub(super) max_body_size: Option<String>,
    /// Seconds a client may take to send a request head [default: 10]
    #[arg(long, value_name = "SECONDS", env = "FASTGATE_HEADER_TIMEOUT")]
    pub(super) header_timeout: Option<String>,
    /// Seconds a connection may be idle between requests [default: 75]
    #[arg(long, value_name = "SECONDS", env = "FASTGATE_KEEP_ALIVE_TIMEOUT")]
    pub(super) keep_alive_timeout: Option<String>,
    /// Seconds a client may pause while it sends a body or takes an answer [default: 30]
    #[arg(long, value_name = "SECONDS", env = "FASTGATE_BODY_TIMEOUT")]
    pub(super) body_timeout: Option<String>,
    /// Seconds requests under way may go on after the node was asked to stop [default: 30]
    #[arg(long, value_name = "SECONDS", env = "FASTGATE_GRACE_TIME")]
    pub(super) grace_time: Option<String>,
    /// Audit events each worker keeps until they are shipped [default: 8192]
    #[arg(long, value_name = "COUNT", env = "FASTGATE_AUDIT_QUEUE")]
    pub(super) audit_queue: Option<String>,
    /// Whether the control plane stores audit events: on or off (the sinks below alone have them)
    /// [default: on]
    #[arg(long, value_name = "KIND", env = "FASTGATE_AUDIT_STORE")]
    pub(super) audit_store: Option<String>,
    /// A file that gets audit events as JSON Lines, or - for standard output; this and the other
    /// sinks need a state directory
    #[arg(long, value_name = "FILE", env = "FASTGATE_AUDIT_FILE")]
    pub(super) audit_file: Option<PathBuf>,
    /// Bytes after which that file is put aside [default: 100MiB]
    #[arg(long, value_name = "SIZE", env = "FASTGATE_AUDIT_FILE_SIZE")]
    pub(super) audit_file_size: Option<String>,
    /// How many files put aside are kept [default: 10]
    #[arg(long, value_name = "COUNT", env = "FASTGATE_AUDIT_FILE_KEEP")]
    pub(super) audit_file_keep: Option<String>,
    /// NATS whose JetStream gets audit events, such as nats://127.0.0.1:4222, or tls:// for TLS
    #[arg(long, value_name = "URL[,URL]", env = "FASTGATE_AUDIT_NATS")]
    pub(super) audit_nats: Option<String>,
    /// The subject they have there [default: fastgate.audit]
    #[arg(long, value_name = "SUBJECT", env = "FASTGATE_AUDIT_NATS_SUBJECT")]
    pub(super) audit_nats_subject: Option<String>,
    /// What opens NATS: a file that nsc wrote, user:password, or a token
    #[arg(long, value_name = "FILE", env = "FASTGATE_AUDIT_NATS_CREDENTIALS")]
    pub(super) audit_nats_credentials: Option<PathBuf>,
    /// The certificates that NATS's own must be signed by, in PEM [default: those the system trusts]
    #[arg(long, value_name = "FILE", env = "FASTGATE_AUDIT_NATS_CA")]
    pub(super) audit_nats_ca: Option<PathBuf>,
    /// A collector that gets audit events as OTLP logs over gRPC, such as https://host:4317
    #[arg(long, value_name = "URL", env = "FASTGATE_AUDIT_OTLP")]
    pub(super) audit_otlp: Option<String>,
    /// The certificates that its own must be signed by, in PEM [default: those the system trusts]
    #[arg(long, value_name = "FILE", env = "FASTGATE_AUDIT_OTLP_CA")]
    pub(super) audit_otlp_ca: Option<PathBuf>,
    /// What it wants to be told with every call, such as a token: a file of 'name: value' lines
    #[arg(long, value_name = "FILE", env = "FASTGATE_AUDIT_OTLP_HEADERS")]
    pub(super) audit_otlp_headers: Option<PathBuf>,
}

/// The command line of a node.
#[derive(Parser)]
#[command(
    name = "fastgate-data-plane",
    version,
    about = "A data plane node of FastGate",
    allow_negative_numbers = true
)]
pub(super) struct Flags {
    /// YAML file with the same settings, named with underscores
    #[arg(long, value_name = "FILE", env = "FASTGATE_CONFIG")]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) given: Given,
}

impl Given {
    pub(super) fn read(path: &Path) -> Result<Self, Mistakes> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|fault| Mistakes::one(format!("--config: can't read {name}: {fault}")))?;
        from_yaml(&name, &text)
    }

    /// What is given here, and what `other` gives for the rest.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            tls_listen: self.tls_listen.or(other.tls_listen),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            ops_addr: self.ops_addr.or(other.ops_addr),
            environment: self.environment.or(other.environment),
            control_plane: self.control_plane.or(other.control_plane),
            join_token_file: self.join_token_file.or(other.join_token_file),
            redis_url: self.redis_url.or(other.redis_url),
            redis_ca: self.redis_ca.or(other.redis_ca),
            limit_headers: self.limit_headers.or(other.limit_headers),
            state_dir: self.state_dir.or(other.state_dir),
            spool_limit: self.spool_limit.or(other.spool_limit),
            spool_full: self.spool_full.or(other.spool_full),
            workers: self.workers.or(other.workers),
            node_id: self.node_id.or(other.node_id),
            labels: self.labels.or(other.labels),
            trusted_proxies: self.trusted_proxies.or(other.trusted_proxies),
            max_body_size: self.max_body_size.or(other.max_body_size),
            header_timeout: self.header_timeout.or(other.header_timeout),
            keep_alive_timeout: self.keep_alive_timeout.or(other.keep_alive_timeout),
            body_timeout: self.body_timeout.or(other.body_timeout),
            grace_time: self.grace_time.or(other.grace_time),
            audit_queue: self.audit_queue.or(other.audit_queue),
            audit_store: self.audit_store.or(other.audit_store),
            audit_file: self.audit_file.or(other.audit_file),
            audit_file_size: self.audit_file_size.or(other.audit_file_size),
            audit_file_keep: self.audit_file_keep.or(other.audit_file_keep),
            audit_nats: self.audit_nats.or(other.audit_nats),
            audit_nats_subject: self.audit_nats_subject.or(other.audit_nats_subject),
            audit_nats_credentials: self.audit_nats_credentials.or(other.audit_nats_credentials),
            audit_nats_ca: self.audit_nats_ca.or(other.audit_nats_ca),
            audit_otlp: self.audit_otlp.or(other.audit_otlp),
            audit_otlp_ca: self.audit_otlp_ca.or(other.audit_otlp_ca),
            audit_otlp_headers: self.audit_otlp_headers.or(other.audit_otlp_headers),
        }
    }
}
