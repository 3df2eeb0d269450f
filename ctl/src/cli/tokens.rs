//! The options of `fgctl tokens`.

use clap::Subcommand;

use super::{DryRun, Limit, Moment};

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
