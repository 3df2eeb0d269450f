//! The options of `fgctl nodes`.

use clap::Subcommand;

use super::Limit;

#[derive(Subcommand, Debug)]
pub(crate) enum NodeCommand {
    /// Lists nodes
    #[command(visible_alias = "ls")]
    List {
        /// Nodes of every environment
        #[arg(short, long)]
        all: bool,
        #[command(flatten)]
        page: Limit,
    },
    /// Shows what a node serves from: revisions, digests and how many objects
    Config {
        /// The node's id
        node_id: String,
        /// Its routes, upstreams and plans, as export writes them
        #[arg(long)]
        document: bool,
    },
}
