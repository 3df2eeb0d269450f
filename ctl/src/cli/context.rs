//! The options of `fgctl context`.

use clap::Subcommand;

#[derive(Subcommand, Debug)]
pub(crate) enum ContextCommand {
    /// Lists contexts
    #[command(visible_alias = "ls")]
    List,
    /// Creates or changes a context from --addr, --ca-file, --token-file and --environment
    #[command(visible_alias = "create")]
    Set {
        /// The context
        name: String,
    },
    /// Takes a context into use
    Use {
        /// The context
        name: String,
    },
    /// Deletes a context
    Delete {
        /// The context
        name: String,
    },
}
