//! The options of `fgctl keys`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DryRun, Etag, Limit, Moment, Overlap, values};

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
        /// Only keys on this plan
        #[arg(long, value_name = "PLAN_ID")]
        plan: Option<String>,
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
        /// Takes a field away, such as rate_limit, plan_id or expires_at; may be repeated
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
    /// Takes in keys, a JSON object a line, as export writes them
    ///
    /// The whole file is checked before the first key is made. Then a thousand keys at a time are, all or
    /// none of them; an import that broke off goes on when it is run again, with the same --secrets-out.
    Import {
        /// The file; - is the standard input
        file: PathBuf,
        /// Where new secrets go, before their keys are made [default: the standard output]
        #[arg(long, value_name = "FILE")]
        secrets_out: Option<PathBuf>,
        #[command(flatten)]
        check: DryRun,
    },
    /// Writes all keys, a JSON object a line, newest first
    Export {
        /// With the hashes of their secrets, so that these open the keys where they are imported
        #[arg(long)]
        with_hashes: bool,
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
    /// The plan the key is on
    #[arg(long, value_name = "PLAN_ID")]
    pub(crate) plan: Option<String>,
    /// Requests a minute over all routes [default: that of the plan, else of the environment]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::rate)]
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
