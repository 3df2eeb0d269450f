//! The options of `fgctl upstreams`.

use clap::{Args, Subcommand};

use super::{DryRun, Etag, LabelArg, Limit, TargetArg};

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
    /// A label, KEY=VALUE, in place of those there are; may be repeated
    #[arg(long = "label", visible_alias = "labels", value_name = "LABEL")]
    pub(crate) labels: Vec<LabelArg>,
}
