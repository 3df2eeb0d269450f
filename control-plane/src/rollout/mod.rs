//! Moves rollouts on: from ring to ring while all is well, and back when something is not.
//!
//! Every control plane watches; what one decides it writes on the condition that the rollout is still where it
//! looked, so of several that decide the same, one does it. Where the change is good enough is said by
//! [`watch`], from what nodes told; nobody's memory but the store's is needed to go on after a restart.

mod health;
mod watch;

use std::{collections::HashMap, sync::Arc, time::Duration};

use fastgate::model::Id;
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::health::{RingHealth, has, of_rings};
use self::watch::{Verdict, Watch};
use crate::{
    domain::{Actor, Rollout, RolloutPosition, RolloutState},
    feed::Feed,
    store::{RolloutMove, Store, StoreError, within},
};

/// How often nodes are looked at.
const EVERY: Duration = Duration::from_millis(500);

/// How long the store may take to move one on.
const MOVING: Duration = Duration::from_secs(5);

/// The same to take one back, which writes all that it changed.
const TAKING_BACK: Duration = Duration::from_secs(60);

/// Who moves rollouts on that nobody else does, in admin events and in the history.
const ACTOR: &str = "rollout";

/// Starts the task; it ends with `stop`.
pub(crate) fn start(store: Arc<dyn Store>, feed: Feed, stop: CancellationToken) -> JoinHandle<()> {
    let mover = Mover { store, feed, watches: HashMap::new() };
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = mover.run() => {}
        }
    })
}

struct Mover {
    store: Arc<dyn Store>,
    feed: Feed,
    watches: HashMap<Id, Watch>,
}

impl Mover {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let rollouts = self.feed.rollouts();
            self.watches.retain(|environment, _| rollouts.iter().any(|(of, _)| of == environment));
            for (environment, rollout) in rollouts {
                if let Err(fault) = self.look(&environment, &rollout).await {
                    tracing::warn!(%environment, "can't move the rollout on: {fault}");
                }
            }
        }
    }

    async fn look(&mut self, environment: &Id, rollout: &Rollout) -> Result<(), StoreError> {
        if rollout.at.state == RolloutState::Stopped {
            return self.take_back(environment, rollout).await;
        }
        let nodes = self.feed.nodes(Some(environment));
        let watch = self.watches.entry(environment.clone());
        let watch = watch.or_insert_with(|| Watch::new(rollout.at));
        let (to, reason) = match watch.look(rollout, &nodes, Instant::now()) {
            Verdict::Wait => return Ok(()),
            Verdict::Go => (next(rollout), String::new()),
            Verdict::Stop(reason) => (rollout.at.with(RolloutState::Stopped), reason),
        };
        if !self.go(environment, rollout, to, &reason).await? {
            return Ok(());
        }
        let (target, ring) = (to.target, rollout.ring_name(to.ring));
        match to.state {
            RolloutState::Stopped => {
                tracing::error!(%environment, target, "a rollout is stopped: {reason}");
                self.take_back(environment, &Rollout { at: to, reason, ..rollout.clone() }).await
            }
            RolloutState::Done => {
                tracing::info!(%environment, target, "a rollout is done");
                Ok(())
            }
            _ => {
                tracing::info!(%environment, target, ring, "a rollout goes on to the next ring");
                Ok(())
            }
        }
    }

    /// Commits what a stopped rollout began from. Until then nodes have it without a revision of its own.
    async fn take_back(&self, environment: &Id, rollout: &Rollout) -> Result<(), StoreError> {
        let target = rollout.at.target;
        let actor = actor();
        let undoing = self.store.undo_rollout(environment, target, &actor);
        match within(TAKING_BACK, undoing).await {
            Ok(undone) => {
                if undone {
                    tracing::info!(%environment, target, "a rollout is taken back");
                }
                Ok(())
            }
            Err(fault @ (StoreError::Unavailable(_) | StoreError::Internal(_))) => Err(fault),
            // Such as keys that are on a plan which is to go. People have to mend that.
            Err(fault) => {
                const CANT: &str = "; it can't be taken back: ";
                let (reason, _) = rollout.reason.split_once(CANT).unwrap_or((&rollout.reason, ""));
                let reason = format!("{reason}{CANT}{fault}");
                if reason != rollout.reason {
                    self.go(environment, rollout, rollout.at, &reason).await?;
                }
                Ok(())
            }
        }
    }

    async fn go(
        &self,
        environment: &Id,
        rollout: &Rollout,
        to: RolloutPosition,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let action = match (to.state, to.ring) {
            (RolloutState::Stopped, _) => format!("stopped: {reason}"),
            (RolloutState::Done, _) => "done".to_owned(),
            (_, ring) => format!("ring {}", rollout.ring_name(ring)),
        };
        let (actor, action) = (actor(), action.as_str());
        let moves = RolloutMove { from: rollout.at, to, reason, actor: &actor, action };
        within(MOVING, self.store.move_rollout(environment, moves)).await
    }
}

fn next(rollout: &Rollout) -> RolloutPosition {
    if rollout.at.ring >= rollout.policy.last_ring() {
        return rollout.at.with(RolloutState::Done);
    }
    RolloutPosition { ring: rollout.at.ring + 1, ..rollout.at }
}

fn actor() -> Actor {
    Actor { token_id: ACTOR.into() }
}
