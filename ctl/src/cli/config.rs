//! The options of `fgctl config`, `apply` and `diff`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::DryRun;

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Says what is wrong with documents, if anything
    Validate(Files),
    /// Says what applying documents would change; exits with 2 if anything would
    Diff(Files),
    /// Creates and updates what documents hold, all or nothing; deletes nothing
    Apply(ApplyArgs),
    /// Writes routes, upstreams and plans as a document that applies unchanged
    Export,
}

/// Where documents are.
#[derive(Args, Debug)]
pub(crate) struct Files {
    /// A YAML or JSON document, a directory of them, or - for the standard input; may be repeated
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) check: DryRun,
}
