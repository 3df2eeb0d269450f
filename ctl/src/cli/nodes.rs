//! The options of `fgctl nodes`.

use clap::{Args, Subcommand};

use super::{DryRun, Limit, Moment};

/// Without a command nodes are listed.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct NodesArgs {
    #[command(subcommand)]
    pub(crate) command: Option<NodeCommand>,
    #[command(flatten)]
    pub(crate) listed: ListedNodes,
}

/// Which nodes to list.
#[derive(Args, Debug)]
pub(crate) struct ListedNodes {
    /// Nodes of every environment
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) page: Limit,
}

#[derive(Subcommand, Debug)]
pub(crate) enum NodeCommand {
    /// Lists nodes, as without a command
    #[command(visible_alias = "ls")]
    List(ListedNodes),
    /// Shows what a node serves from: revisions, digests and how many objects
    Config {
        /// The node's id
        node_id: String,
        /// Its routes, upstreams and plans, as export writes them
        #[arg(long)]
        document: bool,
    },
    /// Refuses a node's certificates from now on; it serves on with what it has, and may join again
    Revoke {
        /// The node's id
        node_id: String,
    },
    /// Join tokens: what nodes get their first certificate with
    #[command(subcommand, visible_alias = "token")]
    Tokens(JoinTokenCommand),
}

#[derive(Subcommand, Debug)]
pub(crate) enum JoinTokenCommand {
    /// Lists tokens that were not used yet
    #[command(visible_alias = "ls")]
    List {
        /// Tokens of every environment
        #[arg(short, long)]
        all: bool,
        #[command(flatten)]
        page: Limit,
    },
    /// Creates a token that one node joins with, once, and shows it once
    Create {
        /// The only node that may [default: any]
        #[arg(long, value_name = "NODE_ID")]
        node_id: Option<String>,
        /// When the token ends: RFC 3339, or a span from now such as 15m [default: 1h]
        #[arg(long, aliases = ["expires", "expires-in"], value_name = "TIME")]
        expires_at: Option<Moment>,
        #[command(flatten)]
        check: DryRun,
    },
    /// Makes a token useless; nodes that have joined stay
    #[command(visible_aliases = ["rm", "revoke"])]
    Delete {
        /// The token's id
        token_id: String,
    },
}
