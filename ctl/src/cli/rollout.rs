//! The options of `fgctl rollout`, and those of `fgctl envs` that say how changes reach nodes.

use std::str::FromStr;

use clap::{Args, Subcommand};

#[derive(Subcommand, Clone, Copy, Debug)]
pub(crate) enum RolloutCommand {
    /// Shows how far the last change of the config is on its way to the nodes
    Status,
    /// Gives the change to no further ring until it is resumed
    Pause,
    /// Goes on with a paused rollout
    Resume,
    /// Takes the change back on every node, as a new revision
    Undo,
}

/// What people choose of the way changes take.
#[derive(Args, Debug, Default)]
pub(crate) struct PolicyFields {
    /// A ring of nodes that gets changes of the config: canary=tier=canary for those with that label (or several,
    /// with commas), few@0.1 for that share of them, few@0.1=zone=eu for both, and rest for all others, which comes
    /// last; repeated, in this order
    #[arg(long = "rollout-ring", value_name = "NAME[@SHARE][=LABELS]")]
    pub(crate) rings: Vec<RingArg>,
    /// Seconds each ring is watched before the next gets the change [default: 60]
    #[arg(long = "rollout-hold", value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) hold: Option<f64>,
    /// The share of requests, 0 to 1, that may be answered with 5xx, or the change is taken back [default: 0.05]
    #[arg(long = "rollout-max-error-rate", value_name = "SHARE", allow_negative_numbers = true)]
    pub(crate) max_error_rate: Option<f64>,
    /// Milliseconds that 99 of 100 requests may take [default: any]
    #[arg(long = "rollout-max-p99-ms", value_name = "MS", allow_negative_numbers = true)]
    pub(crate) max_p99_ms: Option<f64>,
    /// How many times as long as before the change they may take [default: any]
    #[arg(long = "rollout-max-p99-ratio", value_name = "TIMES", allow_negative_numbers = true)]
    pub(crate) max_p99_ratio: Option<f64>,
    /// Requests of a ring below which none of these is judged [default: 20]
    #[arg(long = "rollout-min-requests", value_name = "N", allow_negative_numbers = true)]
    pub(crate) min_requests: Option<i64>,
}

/// `NAME[@SHARE][=LABEL,LABEL]`. What makes a label valid is the control plane's to say.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RingArg {
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) share: Option<f64>,
}

impl FromStr for RingArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, labels) = text.split_once('=').unwrap_or((text, ""));
        let (name, share) = match name.split_once('@') {
            Some((name, share)) => {
                let share =
                    share.parse().map_err(|_| format!("'{share}' is no share: write {name}@0.1"));
                (name, Some(share?))
            }
            None => (name, None),
        };
        let labels = labels.split(',').filter(|label| !label.is_empty());
        Ok(Self { name: name.to_owned(), labels: labels.map(str::to_owned).collect(), share })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_has_a_name_and_perhaps_labels() {
        let ring = |name: &str, labels: &[&str], share| RingArg {
            name: name.into(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            share,
        };
        for (text, expected) in [
            ("rest", Some(ring("rest", &[], None))),
            ("canary=tier=canary", Some(ring("canary", &["tier=canary"], None))),
            ("eu=zone=eu,tier=web", Some(ring("eu", &["zone=eu", "tier=web"], None))),
            ("few@0.1", Some(ring("few", &[], Some(0.1)))),
            ("few@0.1=zone=eu", Some(ring("few", &["zone=eu"], Some(0.1)))),
            ("few@lots", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
