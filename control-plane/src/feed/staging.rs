//! What nodes may have of a namespace: the head, or what a rollout to it began from.

use std::sync::Arc;

use fastgate::{digest::Digest, model::Member};

use super::history::History;
use crate::{domain::Rollout, store::Head};

/// One namespace as it is made known to sessions.
#[derive(Clone)]
pub(super) struct Published {
    pub(super) head: Arc<History>,
    held_back: Option<HeldBack>,
}

/// A head that not every node may have.
#[derive(Clone)]
struct HeldBack {
    rollout: Rollout,
    base: Arc<History>,
}

impl Published {
    pub(super) fn to_all(head: Arc<History>) -> Self {
        Self { head, held_back: None }
    }

    pub(super) fn held_back(head: Arc<History>, rollout: Rollout, base: Arc<History>) -> Self {
        Self { head, held_back: Some(HeldBack { rollout, base }) }
    }

    /// What a node may have.
    pub(super) fn of(&self, member: &Member) -> Arc<History> {
        let held_back = self.held_back.as_ref().filter(|it| !it.rollout.admits(member));
        Arc::clone(held_back.map_or(&self.head, |it| &it.base))
    }

    /// The rollout under way.
    pub(super) fn active(&self) -> Option<&Rollout> {
        self.held_back.as_ref().map(|it| &it.rollout)
    }

    /// Whether a head of the store is known already, and how far it is on its way.
    pub(super) fn is(&self, head: &Head) -> bool {
        let active = head.rollout.as_ref().filter(|rollout| rollout.is_active());
        self.head.revision == head.revision
            && self.head.digest == head.digest
            && self.active() == active
    }

    /// What is known of a revision, without its way there.
    pub(super) fn at(&self, revision: u64, digest: Digest) -> Option<Arc<History>> {
        let base = self.held_back.as_ref().map(|it| &it.base);
        let mut known = [Some(&self.head), base].into_iter().flatten();
        known.find(|it| it.revision == revision && it.digest == digest).map(Arc::clone)
    }
}
