//! The options of `fgctl plans`.

use clap::{Args, Subcommand};

use super::{DryRun, Etag, LabelArg, Limit, LimitArg, values};

#[derive(Subcommand, Debug)]
pub(crate) enum PlanCommand {
    /// Lists plans
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        page: Limit,
    },
    /// Shows a plan
    Get {
        /// The plan's id
        plan_id: String,
    },
    /// Creates a plan
    Create {
        /// Its id
        plan_id: String,
        #[command(flatten)]
        fields: PlanFields,
        #[command(flatten)]
        check: DryRun,
    },
    /// Changes the given fields of a plan, for all keys on it at once
    Update {
        /// The plan's id
        plan_id: String,
        #[command(flatten)]
        fields: PlanFields,
        /// Takes a field away, such as rate_limit; may be repeated
        #[arg(long, value_name = "FIELD")]
        clear: Vec<String>,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        check: DryRun,
    },
    /// Deletes a plan no key is on
    #[command(visible_alias = "rm")]
    Delete {
        /// The plan's id
        plan_id: String,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        check: DryRun,
    },
}

/// The fields of a plan that people choose.
#[derive(Args, Debug, Default)]
pub(crate) struct PlanFields {
    /// Requests a minute over all routes, for each key [default: the default of the environment]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::rate)]
    pub(crate) rate_limit: Option<i64>,
    /// What the limit does while Redis is away: local_share, open or closed
    #[arg(long, value_name = "WAY")]
    pub(crate) rate_limit_fallback: Option<String>,
    /// A further limit for each key, NAME=AMOUNT/PERIOD[,burst=N][,cost=N][,charge=WHAT][,fallback=WAY][,shadow], with second,
    /// minute, hour, day, month or concurrent for a period; may be repeated
    #[arg(long = "limit", visible_alias = "limits", value_name = "LIMIT")]
    pub(crate) limits: Vec<LimitArg>,
    /// A free text for people
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// A label, KEY=VALUE, in place of those there are; may be repeated
    #[arg(long = "label", visible_alias = "labels", value_name = "LABEL")]
    pub(crate) labels: Vec<LabelArg>,
}
