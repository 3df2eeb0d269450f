//! The options of `fgctl routes`.

use clap::{Args, Subcommand};

use super::{DryRun, Etag, LabelArg, Limit, LimitArg, RecordingFields, TargetArg, values};

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
        fields: Box<RouteFields>,
        #[command(flatten)]
        check: DryRun,
    },
    /// Changes the given fields of a route
    Update {
        /// The route's id
        route_id: String,
        #[command(flatten)]
        fields: Box<RouteFields>,
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
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::rate)]
    pub(crate) rate_limit: Option<i64>,
    /// What the limit does while Redis is away: local_share, open or closed
    #[arg(long, value_name = "WAY")]
    pub(crate) rate_limit_fallback: Option<String>,
    /// A further limit, NAME=AMOUNT/PERIOD[,burst=N][,counts=all][,cost=N][,charge=WHAT][,fallback=WAY][,shadow], for each key or
    /// for all together; may be repeated
    #[arg(long = "limit", visible_alias = "limits", value_name = "LIMIT")]
    pub(crate) limits: Vec<LimitArg>,
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
    /// A label, KEY=VALUE, in place of those there are; may be repeated
    #[arg(long = "label", visible_alias = "labels", value_name = "LABEL")]
    pub(crate) labels: Vec<LabelArg>,
    #[command(flatten)]
    pub(crate) recording: RecordingFields,
}
