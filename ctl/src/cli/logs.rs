//! The options of `fgctl logs`.

use clap::{Args, Subcommand};

use super::Moment;

#[derive(Subcommand, Debug)]
pub(crate) enum LogCommand {
    /// Lists events, newest first
    #[command(visible_alias = "ls")]
    List(LogFilter),
}

/// Which events to list.
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
    /// Only this method
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Only this status (404) or class (4xx)
    #[arg(long, alias = "status-code")]
    pub(crate) status: Option<String>,
    /// Only the request with this id
    #[arg(long)]
    pub(crate) request_id: Option<String>,
    /// Only requests of this route
    #[arg(long)]
    pub(crate) route_id: Option<String>,
    /// From this time on: RFC 3339, or as long ago as 15m or 2h [default: an hour before the end]
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// Before this time: RFC 3339, or as long ago as 15m or 2h [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}
