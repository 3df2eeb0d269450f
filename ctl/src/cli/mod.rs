//! What can be said on the command line: clap types, no logic.
//!
//! Help, completions and parsing all come from these types. Every noun may be written in the
//! singular or the plural.

mod config;
mod context;
mod dev;
mod doctor;
mod envs;
mod explain;
mod keys;
mod limits;
mod logs;
mod metrics;
mod nodes;
mod plans;
mod recording;
mod rollout;
mod routes;
mod tokens;
mod upstreams;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use config::{
    ApplyArgs, ConfigCommand, Consent, DiffArgs, Files, Meant, PromoteArgs, RollbackArgs, SyncArgs,
    Wait,
};
pub(crate) use context::ContextCommand;
pub(crate) use dev::DevArgs;
pub(crate) use doctor::DoctorArgs;
pub(crate) use envs::{EnvCommand, EnvFields};
pub(crate) use explain::ExplainArgs;
pub(crate) use keys::{KeyCommand, KeyFields};
pub(crate) use limits::{LimitArg, LimitCommand};
pub(crate) use logs::{FileFormat, LogCommand, LogFilter, LogTimes};
pub(crate) use metrics::{MetricsArgs, StepArg};
pub(crate) use nodes::{JoinTokenCommand, ListedNodes, NodeCommand, NodesArgs};
pub(crate) use plans::{PlanCommand, PlanFields};
pub(crate) use recording::RecordingFields;
pub(crate) use rollout::{PolicyFields, RingArg, RolloutCommand};
pub(crate) use routes::{RouteCommand, RouteFields};
pub(crate) use tokens::TokenCommand;
pub(crate) use upstreams::{UpstreamCommand, UpstreamFields};
pub(crate) use values::{LabelArg, Moment, Overlap, TargetArg};

const AFTER_HELP: &str = "\
Exit codes:
  0  done, and for diff: nothing would change
  1  an error, and for doctor: something is broken
  2  bad usage, for diff: something would change, and for doctor: something is worrying

The admin token comes from --token-file, else the variable FGCTL_TOKEN, else the context.
There is no flag that takes the token itself: it would show in the process list.";

/// Drives FastGate: keys, routes, upstreams, plans, whole config documents.
#[derive(Parser, Debug)]
#[command(name = "fgctl", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where the control plane's admin port is [default: the context's, else http://127.0.0.1:9000]
    #[arg(long, global = true, value_name = "URL", env = "FGCTL_ADDR")]
    pub(crate) addr: Option<String>,
    /// PEM file of the CA that signed the control plane's certificate [default: the context's, else what
    /// the system trusts]
    #[arg(long, global = true, value_name = "FILE", env = "FGCTL_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// A file that holds the admin token
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The environment to work in [default: the context's, else "default"]
    #[arg(short, long, global = true, value_name = "ENV", env = "FGCTL_ENVIRONMENT")]
    pub(crate) environment: Option<String>,
    /// The context to take instead of the one in use
    #[arg(long, global = true, value_name = "NAME", env = "FGCTL_CONTEXT")]
    pub(crate) context: Option<String>,
    /// How to show the answer: table, json (as REST answers) or yaml
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORM",
        default_value = "table",
        hide_possible_values = true
    )]
    pub(crate) output: Form,
    /// Seconds to wait for the control plane's answer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10.0, value_parser = values::seconds)]
    pub(crate) request_timeout: f64,
}

/// How an answer is shown.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Form {
    /// Columns for people
    #[default]
    Table,
    /// The JSON of the REST interface
    Json,
    /// The same fields as YAML
    Yaml,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// API keys: who may call through the gateway, and how much
    #[command(subcommand, visible_alias = "key")]
    Keys(KeyCommand),
    /// Routes: which requests go where, and under which policy
    #[command(subcommand, visible_alias = "route")]
    Routes(RouteCommand),
    /// Upstreams: named sets of weighted targets
    #[command(subcommand, visible_alias = "upstream")]
    Upstreams(UpstreamCommand),
    /// Plans: named sets of limits that keys refer to
    #[command(subcommand, visible_alias = "plan")]
    Plans(PlanCommand),
    /// Limits: where those of a key stand
    #[command(subcommand)]
    Limits(LimitCommand),
    /// Environments: isolated sets of keys, routes, upstreams and plans
    #[command(subcommand, visible_alias = "env", aliases = ["environments", "environment"])]
    Envs(EnvCommand),
    /// Rollouts: how far the last change of the config is on its way to the nodes
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Nodes: the running data planes
    #[command(visible_alias = "node")]
    Nodes(NodesArgs),
    /// Says what a node would do with a request, and why; sends nothing upstream
    Explain(ExplainArgs),
    /// Looks at everything that is known to go wrong, and says what to do about it
    Doctor(DoctorArgs),
    /// The audit log: one event for every request
    #[command(subcommand, visible_alias = "log")]
    Logs(LogCommand),
    /// What passed through the gateway, added up: errors, response times, the busiest keys
    Metrics(MetricsArgs),
    /// Admin tokens: who may use this tool
    #[command(subcommand, visible_alias = "token")]
    Tokens(TokenCommand),
    /// Config documents: many routes, upstreams and plans at once
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Creates and updates what documents hold, all or nothing; deletes nothing
    Apply(ApplyArgs),
    /// Makes the environment hold what documents do: like apply, and deletes what they do not hold
    Sync(SyncArgs),
    /// Says what is wrong with documents, if anything
    Validate(Files),
    /// Says what applying documents would change, or what changed between two revisions; exits with 2 if
    /// anything did
    Diff(DiffArgs),
    /// Writes routes, upstreams and plans as a document that applies unchanged
    Export(Meant),
    /// Contexts: named control planes with their token file and environment
    #[command(subcommand, visible_alias = "contexts")]
    Context(ContextCommand),
    /// Writes a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Runs a whole gateway on this machine to try things out
    Dev(DevArgs),
}

impl Command {
    /// Itself, or the command of `config` it is short for.
    pub(crate) fn unabridged(self) -> Self {
        Self::Config(match self {
            Self::Apply(args) => ConfigCommand::Apply(args),
            Self::Sync(args) => ConfigCommand::Sync(args),
            Self::Validate(files) => ConfigCommand::Validate(files),
            Self::Diff(args) => ConfigCommand::Diff(args),
            Self::Export(meant) => ConfigCommand::Export(meant),
            whole => return whole,
        })
    }
}

/// How many objects to list.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// At most so many
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

/// The state an object must be in to be changed.
#[derive(Args, Debug)]
pub(crate) struct Etag {
    /// Refuses when the object was changed since this etag was read
    #[arg(long)]
    pub(crate) etag: Option<String>,
}

/// Whether anything is changed at all.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct DryRun {
    /// Checks everything and changes nothing
    #[arg(long, alias = "validate-only")]
    pub(crate) dry_run: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_flag_takes_a_secret() {
        fn flags(command: &clap::Command, all: &mut Vec<String>) {
            all.extend(command.get_arguments().filter_map(|arg| arg.get_long()).map(String::from));
            command.get_subcommands().for_each(|below| flags(below, all));
        }
        let mut all = Vec::new();
        flags(&Cli::command(), &mut all);
        assert!(all.contains(&"token-file".into()));
        for secret in ["token", "key-value", "secret", "password"] {
            assert!(!all.contains(&secret.into()), "--{secret}");
        }
    }

    #[test]
    fn a_rate_no_field_holds_is_told_which_ones_there_are() {
        for (line, from) in [
            ("fgctl plans create gold --rate-limit", 1),
            ("fgctl keys update k --rate-limit", 1),
            ("fgctl routes update r --rate-limit", 1),
            ("fgctl envs update e --default-rate-limit", 0),
        ] {
            for rate in ["18446744073709551615", "many"] {
                let words = line.split(' ').chain([rate]);
                let told = Cli::try_parse_from(words).expect_err("no rate").to_string();
                let mend = format!("give a whole number from {from} to 1000000000");
                assert!(told.contains(&mend), "{line} {rate}: {told}");
            }
        }
    }

    #[test]
    fn nouns_may_be_singular_or_plural_and_options_stand_anywhere() {
        for line in [
            "fgctl key list",
            "fgctl nodes",
            "fgctl node --all --limit 5",
            "fgctl nodes ls -a",
            "fgctl sync -f a.yaml --yes",
            "fgctl validate -f a.yaml",
            "fgctl keys ls -o json -e staging",
            "fgctl -e staging keys list",
            "fgctl environments list",
            "fgctl env ls",
            "fgctl nodes tokens create --environment prod --expires 1h --node-id node-1",
            "fgctl node revoke node-1 -e prod",
            "fgctl plan update gold --rate-limit -1 --clear rate_limit_fallback",
            "fgctl routes create --path-prefix /a --target http://a:1,weight=3 --timeout 30",
            "fgctl routes update r --timeout -1 --rate-limit -1 --retries -1 --priority -1",
            "fgctl apply -f a.yaml -f - --dry-run",
            "fgctl logs list --status 4xx --since 15m --limit 10 --rate-limited",
            "fgctl logs export --format csv --rate-limited false --min-response-time-ms 0.5",
            "fgctl logs tail -n 0 -f --error key_revoked",
            "fgctl logs gaps --node-id node-1 --limit 5",
            "fgctl metrics --since 1d --step hour --top 3",
            "fgctl rollout status -e prod",
            "fgctl envs update prod --rollout-ring canary=tier=canary --rollout-ring rest --rollout-hold 30",
            "fgctl config rollback 7 --force --wait",
            "fgctl diff -f dir --addr 127.0.0.1:9000",
            "fgctl explain GET /a?b -H X-Tenant:a -H Host:b.com --from ::1 --node n1 --key-id k1",
            "fgctl node config n1 --document",
            "fgctl config sync -f a.yaml -l team=a,tier!=b --yes",
            "fgctl routes update r --label team=a --label tier=",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }
}
