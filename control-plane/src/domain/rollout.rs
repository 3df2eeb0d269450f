//! A change of the config on its way to the nodes of an environment, ring by ring.

use std::time::SystemTime;

use fastgate::{
    admin::v1,
    digest::Digest,
    model::{self, Member, Violations},
};

/// How changes reach nodes: as written, and what it means.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RolloutPolicy {
    pub(crate) wire: v1::RolloutPolicy,
    pub(crate) model: model::RolloutPolicy,
}

impl RolloutPolicy {
    /// Checks a policy as written.
    pub(crate) fn parse(wire: v1::RolloutPolicy) -> Result<Self, Violations> {
        let model = model::RolloutPolicy::parse(&wire)?;
        Ok(Self { wire, model })
    }
}

/// A rollout: from what every node has to the newest revision.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Rollout {
    /// The revision in force everywhere when it began.
    pub(crate) base: u64,
    /// Of all config at that revision.
    pub(crate) base_digest: Digest,
    /// As of when it began, or began anew.
    pub(crate) policy: model::RolloutPolicy,
    pub(crate) at: RolloutPosition,
    /// What was wrong with the change, or why it ended early.
    pub(crate) reason: String,
    pub(crate) started_at: SystemTime,
    /// When it got to this position.
    pub(crate) moved_at: SystemTime,
}

/// How far a rollout is. Whoever moves it on says from where, so that of two only one does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RolloutPosition {
    /// The revision it leads to.
    pub(crate) target: u64,
    /// The place of the last ring that may have it.
    pub(crate) ring: usize,
    pub(crate) state: RolloutState,
}

/// What a rollout is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RolloutState {
    /// A ring is watched, then the next one follows.
    Running,
    /// No further ring follows.
    Paused,
    /// Something is wrong with the change: no node is to have it.
    Stopped,
    /// Every node may have the change.
    Done,
    /// It was stopped and taken back.
    RolledBack,
    /// It was taken back, or led back by itself.
    Undone,
}

impl Rollout {
    /// Whether some nodes may not have the newest revision.
    pub(crate) fn is_active(&self) -> bool {
        self.at.state.is_active()
    }

    /// Whether a node may have the newest revision.
    pub(crate) fn admits(&self, member: &Member) -> bool {
        match self.at.state {
            RolloutState::Running | RolloutState::Paused => {
                self.policy.ring_of(member) <= self.at.ring
            }
            RolloutState::Stopped => false,
            RolloutState::Done | RolloutState::RolledBack | RolloutState::Undone => true,
        }
    }

    /// What the ring at a place is called.
    pub(crate) fn ring_name(&self, ring: usize) -> &str {
        self.policy.rings.get(ring).map_or("", |ring| ring.name.as_str())
    }
}

impl RolloutPosition {
    /// The same in another state.
    pub(crate) fn with(self, state: RolloutState) -> Self {
        Self { state, ..self }
    }
}

impl RolloutState {
    const ALL: [Self; 6] =
        [Self::Running, Self::Paused, Self::Stopped, Self::Done, Self::RolledBack, Self::Undone];

    pub(crate) fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Stopped)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Done => "done",
            Self::RolledBack => "rolled_back",
            Self::Undone => "undone",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use fastgate::model::Labels;

    use super::*;

    #[test]
    fn a_node_may_have_what_its_ring_may() {
        let ring = |name: &str, labels: &[&str]| v1::Ring {
            name: name.into(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            share: None,
        };
        let rings = vec![ring("canary", &["tier=canary"]), ring("rest", &[])];
        let wire = v1::RolloutPolicy { rings, ..v1::RolloutPolicy::default() };
        let member = |texts: &[&str]| {
            Member::new("n1", Labels::parse(texts.iter().copied()).expect("labels"))
        };
        let (canary, other) = (member(&["tier=canary"]), member(&[]));
        for (state, ring, canary_may, other_may) in [
            (RolloutState::Running, 0, true, false),
            (RolloutState::Paused, 0, true, false),
            (RolloutState::Running, 1, true, true),
            (RolloutState::Stopped, 1, false, false),
            (RolloutState::Done, 1, true, true),
            (RolloutState::RolledBack, 0, true, true),
            (RolloutState::Undone, 0, true, true),
        ] {
            let rollout = Rollout {
                base: 6,
                base_digest: Digest::default(),
                policy: model::RolloutPolicy::parse(&wire).expect("a policy"),
                at: RolloutPosition { target: 7, ring, state },
                reason: String::new(),
                started_at: SystemTime::UNIX_EPOCH,
                moved_at: SystemTime::UNIX_EPOCH,
            };
            let may = (rollout.admits(&canary), rollout.admits(&other));
            assert_eq!(may, (canary_may, other_may), "{state:?} {ring}");
            assert_eq!(RolloutState::parse(state.name()), Some(state));
        }
    }
}
