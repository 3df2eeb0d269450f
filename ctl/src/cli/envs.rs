//! The options of `fgctl envs`.

use clap::{Args, Subcommand};

use super::{DryRun, Etag, Limit, PolicyFields, values};

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
        /// Takes a field away, such as default_rate_limit or rollout; may be repeated
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
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::default_rate)]
    pub(crate) default_rate_limit: Option<i64>,
    #[command(flatten)]
    pub(crate) rollout: PolicyFields,
}
