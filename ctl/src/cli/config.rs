//! The options of `fgctl config`, and of what is short for its commands.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DryRun, Limit};

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Says what is wrong with documents, if anything
    Validate(Files),
    /// Says what applying documents would change, or what changed between two revisions; exits with 2 if
    /// anything did
    Diff(DiffArgs),
    /// Creates and updates what documents hold, all or nothing; deletes nothing
    Apply(ApplyArgs),
    /// Makes the environment hold what documents do: like apply, and deletes what they do not hold
    Sync(SyncArgs),
    /// Writes routes, upstreams and plans as a document that applies unchanged
    Export(Meant),
    /// Applies the routes, upstreams and plans of one environment to another
    Promote(PromoteArgs),
    /// Lists the revisions of the environment's config, newest first
    History(Limit),
    /// Writes the document that a revision was
    Show {
        /// Its number
        revision: u64,
    },
    /// Makes routes, upstreams and plans what they were, as a new revision
    Rollback(RollbackArgs),
}

/// Which objects a command is about.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct Meant {
    /// Only objects whose labels fit: KEY=VALUE or KEY!=VALUE, several with commas; others stay as they are
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) selector: String,
}

/// Where documents are.
#[derive(Args, Debug)]
pub(crate) struct Files {
    /// A YAML or JSON document, a directory of them, or - for the standard input; may be repeated
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// Two revisions to compare, the earlier one first, in place of documents with what is stored
    #[arg(value_name = "REVISION", num_args = 2, conflicts_with_all = ["files", "prune", "selector"])]
    pub(crate) revisions: Vec<u64>,
    /// A YAML or JSON document, a directory of them, or - for the standard input; may be repeated
    #[arg(short, long = "file", value_name = "FILE", required_unless_present = "revisions")]
    pub(crate) files: Vec<PathBuf>,
    /// Also says what sync would delete
    #[arg(long)]
    pub(crate) prune: bool,
    #[command(flatten)]
    pub(crate) meant: Meant,
}

#[derive(Args, Debug)]
pub(crate) struct RollbackArgs {
    /// The revision to go back to
    pub(crate) revision: u64,
    /// Deletes even more than ten objects that are over a fifth of all
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) check: DryRun,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) meant: Meant,
    #[command(flatten)]
    pub(crate) check: DryRun,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Args, Debug)]
pub(crate) struct SyncArgs {
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) meant: Meant,
    #[command(flatten)]
    pub(crate) consent: Consent,
    #[command(flatten)]
    pub(crate) check: DryRun,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Args, Debug)]
pub(crate) struct PromoteArgs {
    /// The environment that is read
    pub(crate) from: String,
    /// The environment that is changed
    pub(crate) to: String,
    /// Deletes what the first does not hold
    #[arg(long)]
    pub(crate) prune: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
    #[command(flatten)]
    pub(crate) check: DryRun,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// What may be deleted.
#[derive(Args, Clone, Copy, Default, Debug)]
pub(crate) struct Consent {
    /// Deletes; without it, what would be deleted is told and nothing is changed
    #[arg(long)]
    pub(crate) yes: bool,
    /// Deletes even more than ten objects that are over a fifth of all
    #[arg(long, requires = "yes")]
    pub(crate) force: bool,
}

/// Whether the command ends only when the nodes have the change.
#[derive(Args, Clone, Copy, Default, Debug)]
pub(crate) struct Wait {
    /// Waits until every connected node has the change, so many seconds at most
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30",
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub(crate) wait: Option<u32>,
}
