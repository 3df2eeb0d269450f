//! The options of `fgctl metrics`.

use clap::{Args, ValueEnum};

use super::Moment;

#[derive(Args, Debug)]
pub(crate) struct MetricsArgs {
    /// From this time on: RFC 3339, or as long ago as 15m or 2h [default: a day before the end]
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// Up to this time: RFC 3339, or as long ago as 15m or 2h [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
    /// The length of time of each line [default: as fits the time]
    #[arg(long)]
    pub(crate) step: Option<StepArg>,
    /// How many keys, source paths, routes, targets and errors to name
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=100))]
    pub(crate) top: i32,
    /// Only requests with this key
    #[arg(long)]
    pub(crate) key_id: Option<String>,
    /// Only requests of keys issued to this source path
    #[arg(long)]
    pub(crate) source_path: Option<String>,
    /// Only requests of this route
    #[arg(long)]
    pub(crate) route_id: Option<String>,
    /// Only requests sent to this target
    #[arg(long)]
    pub(crate) target_url: Option<String>,
    /// Only what the gateway answered for this reason, such as key_revoked
    #[arg(long)]
    pub(crate) error: Option<String>,
    /// Only this status (404) or class (4xx)
    #[arg(long, alias = "status-code")]
    pub(crate) status: Option<String>,
}

/// A length of time that is added up over.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StepArg {
    Minute,
    Hour,
    Day,
}
