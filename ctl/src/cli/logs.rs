//! The options of `fgctl logs`.

use clap::{Args, Subcommand, ValueEnum};

use super::{Limit, Moment};

#[derive(Subcommand, Debug)]
pub(crate) enum LogCommand {
    /// Lists events, newest first
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        filter: Box<LogFilter>,
        #[command(flatten)]
        times: LogTimes,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Writes all events, newest first, while they are read
    Export {
        #[command(flatten)]
        filter: Box<LogFilter>,
        #[command(flatten)]
        times: LogTimes,
        /// An object a line, or a table
        #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
        format: FileFormat,
    },
    /// Shows the last events, the newest below
    Tail {
        #[command(flatten)]
        filter: Box<LogFilter>,
        /// So many of the last hour
        #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
        lines: u32,
        /// Goes on with what comes, from all nodes, until it is interrupted
        #[arg(short, long)]
        follow: bool,
    },
    /// Lists what is missing: events that nodes recorded and lost, and why
    Gaps {
        /// Only those of this node
        #[arg(long)]
        node_id: Option<String>,
        #[command(flatten)]
        page: Limit,
    },
}

/// How a file is written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileFormat {
    /// JSON Lines
    Jsonl,
    /// Comma-separated values, with a head
    Csv,
}

/// Which events.
#[derive(Args, Debug)]
pub(crate) struct LogFilter {
    /// Only requests with this key
    #[arg(long)]
    pub(crate) key_id: Option<String>,
    /// Only requests of keys issued to this source path
    #[arg(long)]
    pub(crate) source_path: Option<String>,
    /// Only requests whose path starts with this text
    #[arg(long)]
    pub(crate) path_prefix: Option<String>,
    /// Only requests with this text anywhere in their path
    #[arg(long)]
    pub(crate) path_contains: Option<String>,
    /// Only this method
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Only this status (404) or class (4xx)
    #[arg(long, alias = "status-code")]
    pub(crate) status: Option<String>,
    /// Only what the gateway answered for this reason, such as key_revoked
    #[arg(long)]
    pub(crate) error: Option<String>,
    /// Only the request with this id
    #[arg(long)]
    pub(crate) request_id: Option<String>,
    /// Only requests of this route
    #[arg(long)]
    pub(crate) route_id: Option<String>,
    /// Only requests sent to this target
    #[arg(long)]
    pub(crate) target_url: Option<String>,
    /// Only requests a node took
    #[arg(long)]
    pub(crate) node_id: Option<String>,
    /// Only requests from this address
    #[arg(long)]
    pub(crate) ip_address: Option<String>,
    /// Only requests with this text anywhere in their user agent
    #[arg(long)]
    pub(crate) user_agent_contains: Option<String>,
    /// Only requests that a limit stopped, or that none did
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) rate_limited: Option<bool>,
    /// Only requests with this secret of their key
    #[arg(long)]
    pub(crate) secret_version: Option<u32>,
    /// Only requests sent upstream so often, or more
    #[arg(long, value_name = "COUNT")]
    pub(crate) min_attempts: Option<u32>,
    /// Only requests that took so long, or longer
    #[arg(long, value_name = "MS")]
    pub(crate) min_response_time_ms: Option<f64>,
    /// Only requests whose upstream took so long, or longer
    #[arg(long, value_name = "MS")]
    pub(crate) min_upstream_time_ms: Option<f64>,
    /// Only requests whose answer took so long to begin, or longer
    #[arg(long, value_name = "MS")]
    pub(crate) min_ttfb_ms: Option<f64>,
    /// Only requests with so large a body, or larger
    #[arg(long, value_name = "BYTES")]
    pub(crate) min_request_size: Option<u64>,
    /// Only answers with so large a body, or larger
    #[arg(long, value_name = "BYTES")]
    pub(crate) min_response_size: Option<u64>,
    /// Only answers that ended so: complete, client_gone or upstream_broke_off
    #[arg(long, value_name = "HOW")]
    pub(crate) response_end: Option<String>,
    /// Only answers whose body came in so many pieces, or more
    #[arg(long, value_name = "COUNT")]
    pub(crate) min_response_chunks: Option<u32>,
}

/// The time of them.
#[derive(Args, Debug)]
pub(crate) struct LogTimes {
    /// From this time on: RFC 3339, or as long ago as 15m or 2h [default: an hour before the end]
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// Before this time: RFC 3339, or as long ago as 15m or 2h [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
}
