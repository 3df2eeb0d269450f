//! The commands of keys, routes, upstreams, environments and tokens.

use clap::{Args, Subcommand};

use super::{DryRun, Limit, Moment, Overlap, TargetArg};

/// One object to delete, as last read.
#[derive(Args, Debug)]
pub(crate) struct Etag {
    /// Refuses when the object was changed since this etag was read
    #[arg(long)]
    pub(crate) etag: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum KeyCommand {
    /// Lists keys, newest first
    #[command(visible_alias = "ls")]
    List {
        /// Only keys issued to this source path
        #[arg(long)]
        source_path: Option<String>,
        /// Only active (true) or revoked (false) keys
        #[arg(long, value_name = "BOOL")]
        active: Option<bool>,
        #[command(flatten)]
        page: Limit,
    },
    /// Shows a key
    Get {
        /// The key's id
        key_id: String,
    },
    /// Creates a key and shows its secret once
    Create {
        #[command(flatten)]
        fields: KeyFields,
        #[command(flatten)]
        check: DryRun,
    },
    /// Changes the given fields of a key
    Update {
        /// The key's id
        key_id: String,
        #[command(flatten)]
        fields: KeyFields,
        /// True brings a revoked key back
        #[arg(long, value_name = "BOOL")]
        active: Option<bool>,
        /// Takes a field away, such as rate_limit or expires_at; may be repeated
        #[arg(long, value_name = "FIELD")]
        clear: Vec<String>,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        check: DryRun,
    },
    /// Deletes a key and its record
    #[command(visible_alias = "rm")]
    Delete {
        /// The key's id
        key_id: String,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        check: DryRun,
    },
    /// Adds a new secret, shows it once, and ends the old one after the overlap
    Rotate {
        /// The key's id
        key_id: String,
        /// How long the old secret stays valid, such as 1h; 0 ends it at once [default: 24h]
        #[arg(long, value_name = "SPAN")]
        overlap: Option<Overlap>,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        check: DryRun,
    },
    /// Refuses a key from now on and keeps its record
    Revoke {
        /// The key's id
        key_id: String,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        check: DryRun,
    },
}

/// The fields of a key that people choose.
#[derive(Args, Debug, Default)]
pub(crate) struct KeyFields {
    /// Who the key is issued to, such as mobile_app
    #[arg(long)]
    pub(crate) source_path: Option<String>,
    /// What the key may do, such as orders:read; may be repeated or a list with commas
    #[arg(
        long = "permission",
        visible_alias = "permissions",
        value_name = "PERM",
        value_delimiter = ','
    )]
    pub(crate) permissions: Vec<String>,
    /// Requests a minute over all routes [default: the default of the environment]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) rate_limit: Option<i64>,
    /// What the limit does while Redis is away: local_share, open or closed
    #[arg(long, value_name = "WAY")]
    pub(crate) rate_limit_fallback: Option<String>,
    /// When the key ends: RFC 3339, or a span from now such as 90d
    #[arg(long, alias = "expires-in", value_name = "TIME")]
    pub(crate) expires_at: Option<Moment>,
    /// A free text for people
    #[arg(long)]
    pub(crate) description: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum RouteCommand {
    /// Lists routes
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        page: Limit,
    },
    /// Shows a route
    Get {
        /// The route's id
        route_id: String,
    },
    /// Creates a route
    Create {
        /// Its id; made by the control plane when absent
        route_id: Option<String>,
        #[command(flatten)]
        fields: RouteFields,
        #[command(flatten)]
        check: DryRun,
    },
    /// Changes the given fields of a route
    Update {
        /// The route's id
        route_id: String,
        #[command(flatten)]
        fields: RouteFields,
        /// Takes a field away, such as rate_limit or host; may be repeated
        #[arg(long, value_name = "FIELD")]
        clear: Vec<String>,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        check: DryRun,
    },
    /// Deletes a route
    #[command(visible_alias = "rm")]
    Delete {
        /// The route's id
        route_id: String,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        check: DryRun,
    },
}

/// The fields of a route that people choose.
#[derive(Args, Debug, Default)]
pub(crate) struct RouteFields {
    /// A free text for people
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The host that matches: api.example.com or *.example.com [default: any]
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Matches this path alone
    #[arg(long, conflicts_with = "path_prefix")]
    pub(crate) path: Option<String>,
    /// Matches this path and all below it
    #[arg(long)]
    pub(crate) path_prefix: Option<String>,
    /// The methods that match; may be repeated or a list with commas [default: all]
    #[arg(
        long = "method",
        visible_alias = "methods",
        value_name = "METHOD",
        value_delimiter = ','
    )]
    pub(crate) methods: Vec<String>,
    /// Where requests go: URL, URL,weight=70 or URL,weight=70,timeout=30; may be repeated
    #[arg(long = "target", value_name = "TARGET", conflicts_with = "upstream")]
    pub(crate) targets: Vec<TargetArg>,
    /// The upstream requests go to, in place of targets
    #[arg(long, value_name = "UPSTREAM_ID")]
    pub(crate) upstream: Option<String>,
    /// Seconds to wait for the response, over all attempts [default: 30]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) timeout: Option<f64>,
    /// Further attempts for a request that is safe to repeat [default: 1]
    #[arg(long, visible_alias = "retries", value_name = "N", allow_negative_numbers = true)]
    pub(crate) retry_count: Option<i32>,
    /// Whether a valid key is asked for [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) auth_required: Option<bool>,
    /// A permission the key must hold; may be repeated or a list with commas
    #[arg(
        long = "required-permission",
        visible_aliases = ["permission", "required-permissions"],
        value_name = "PERM",
        value_delimiter = ','
    )]
    pub(crate) required_permissions: Vec<String>,
    /// Requests a minute for each key on this route
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) rate_limit: Option<i64>,
    /// What the limit does while Redis is away: local_share, open or closed
    #[arg(long, value_name = "WAY")]
    pub(crate) rate_limit_fallback: Option<String>,
    /// Removes the matched prefix before forwarding
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) strip_prefix: Option<bool>,
    /// Puts this in place of the matched path or prefix before forwarding
    #[arg(long, value_name = "PATH")]
    pub(crate) rewrite: Option<String>,
    /// Of several routes that match, the highest wins, then the most specific
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) priority: Option<i32>,
    /// Lets %2F pass in the path
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) allow_encoded_slash: Option<bool>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum UpstreamCommand {
    /// Lists upstreams
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        page: Limit,
    },
    /// Shows an upstream
    Get {
        /// The upstream's id
        upstream_id: String,
    },
    /// Creates an upstream
    Create {
        /// Its id
        upstream_id: String,
        #[command(flatten)]
        fields: UpstreamFields,
        #[command(flatten)]
        check: DryRun,
    },
    /// Changes the given fields of an upstream
    Update {
        /// The upstream's id
        upstream_id: String,
        #[command(flatten)]
        fields: UpstreamFields,
        /// Takes a field away, such as connect_timeout; may be repeated
        #[arg(long, value_name = "FIELD")]
        clear: Vec<String>,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        check: DryRun,
    },
    /// Deletes an upstream no route names
    #[command(visible_alias = "rm")]
    Delete {
        /// The upstream's id
        upstream_id: String,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        check: DryRun,
    },
}

/// The fields of an upstream that people choose.
#[derive(Args, Debug, Default)]
pub(crate) struct UpstreamFields {
    /// Where requests go: URL, URL,weight=70 or URL,weight=70,timeout=30; may be repeated
    #[arg(long = "target", value_name = "TARGET")]
    pub(crate) targets: Vec<TargetArg>,
    /// Seconds to wait for a connection to a target [default: 2]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) connect_timeout: Option<f64>,
    /// A free text for people
    #[arg(long)]
    pub(crate) description: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum EnvCommand {
    /// Lists environments
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        page: Limit,
    },
    /// Shows an environment
    Get {
        /// The environment
        name: String,
    },
    /// Creates an environment
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        fields: EnvFields,
        #[command(flatten)]
        check: DryRun,
    },
    /// Changes the given fields of an environment
    Update {
        /// The environment
        name: String,
        #[command(flatten)]
        fields: EnvFields,
        /// Takes a field away, such as default_rate_limit; may be repeated
        #[arg(long, value_name = "FIELD")]
        clear: Vec<String>,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        check: DryRun,
    },
    /// Deletes an empty environment
    #[command(visible_alias = "rm")]
    Delete {
        /// The environment
        name: String,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        check: DryRun,
    },
}

/// The fields of an environment that people choose.
#[derive(Args, Debug, Default)]
pub(crate) struct EnvFields {
    /// A free text for people
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// Requests a minute for keys without a limit of their own; 0 is no limit [default: 100]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) default_rate_limit: Option<i64>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Lists admin tokens
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        page: Limit,
    },
    /// Creates an admin token and shows it once
    Create {
        /// What the token is for, such as "deploy pipeline"
        #[arg(long)]
        name: String,
        /// viewer, auditor, key_manager, operator or owner
        #[arg(long)]
        role: String,
        /// When the token ends: RFC 3339, or a span from now such as 30d [default: 90d]
        #[arg(long, alias = "expires-in", value_name = "TIME")]
        expires_at: Option<Moment>,
        #[command(flatten)]
        check: DryRun,
    },
    /// Refuses a token from now on
    #[command(visible_aliases = ["rm", "delete"])]
    Revoke {
        /// The token's id
        token_id: String,
    },
}
