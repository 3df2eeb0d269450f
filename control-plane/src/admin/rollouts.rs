//! Rollouts: how far a change of the config is on its way to the nodes.

use fastgate::{
    admin::v1::{
        GetRolloutRequest, Node, PauseRolloutRequest, ResumeRolloutRequest, RingStatus,
        Rollout as WireRollout, UndoRolloutRequest, rollout::State,
        rollout_service_server::RolloutService,
    },
    model::Id,
};
use tonic::{Request, Response, Status};

use super::{Admin, change::caller};
use crate::{
    domain::{Actor, Rollout, RolloutState},
    error::Error,
    rollout::{RingHealth, has, of_rings},
    store::RolloutMove,
};

const PAUSE: &str = "fastgate.admin.v1.RolloutService/PauseRollout";
const RESUME: &str = "fastgate.admin.v1.RolloutService/ResumeRollout";

/// How often it is tried again when the rollout moves on meanwhile.
const ATTEMPTS: usize = 5;

#[tonic::async_trait]
impl RolloutService for Admin {
    async fn get_rollout(
        &self,
        request: Request<GetRolloutRequest>,
    ) -> Result<Response<WireRollout>, Status> {
        let environment = self.environment(&request.into_inner().environment, "").await?;
        Ok(Response::new(self.shown_rollout(&environment).await?))
    }

    async fn pause_rollout(
        &self,
        request: Request<PauseRolloutRequest>,
    ) -> Result<Response<WireRollout>, Status> {
        let actor = caller(&request)?;
        let environment = self.environment(&request.into_inner().environment, "").await?;
        let states = (RolloutState::Running, RolloutState::Paused);
        Ok(Response::new(self.turn(&environment, states, (&actor, PAUSE)).await?))
    }

    async fn resume_rollout(
        &self,
        request: Request<ResumeRolloutRequest>,
    ) -> Result<Response<WireRollout>, Status> {
        let actor = caller(&request)?;
        let environment = self.environment(&request.into_inner().environment, "").await?;
        let states = (RolloutState::Paused, RolloutState::Running);
        Ok(Response::new(self.turn(&environment, states, (&actor, RESUME)).await?))
    }

    async fn undo_rollout(
        &self,
        request: Request<UndoRolloutRequest>,
    ) -> Result<Response<WireRollout>, Status> {
        let actor = caller(&request)?;
        let environment = self.environment(&request.into_inner().environment, "").await?;
        let mut tries = ATTEMPTS;
        loop {
            let rollout = self.rollout(&environment).await?;
            if !rollout.is_active() || tries == 0 {
                return Err(over(&environment, &rollout, "be taken back").into());
            }
            tries -= 1;
            let undone = self.store.undo_rollout(&environment, rollout.at.target, &actor).await;
            if undone.map_err(Error::from)? {
                return Ok(Response::new(self.shown_rollout(&environment).await?));
            }
        }
    }
}

impl Admin {
    /// Brings a rollout from one state to another, wherever it is.
    async fn turn(
        &self,
        environment: &Id,
        (from, to): (RolloutState, RolloutState),
        (actor, action): (&Actor, &str),
    ) -> Result<WireRollout, Error> {
        let mut tries = ATTEMPTS;
        loop {
            let rollout = self.rollout(environment).await?;
            if rollout.at.state != from || tries == 0 {
                let what = if to == RolloutState::Paused { "be paused" } else { "be resumed" };
                return Err(over(environment, &rollout, what));
            }
            tries -= 1;
            let (from, to) = (rollout.at, rollout.at.with(to));
            let moves = RolloutMove { from, to, reason: "", actor, action };
            if self.store.move_rollout(environment, moves).await? {
                return self.shown_rollout(environment).await;
            }
        }
    }

    async fn rollout(&self, environment: &Id) -> Result<Rollout, Error> {
        let rollout = self.store.rollout(environment).await?;
        rollout.ok_or_else(|| Error::NoRollout(environment.to_string()))
    }

    async fn shown_rollout(&self, environment: &Id) -> Result<WireRollout, Error> {
        let rollout = self.rollout(environment).await?;
        Ok(wire(environment, &rollout, &self.feed.nodes(Some(environment))))
    }
}

fn over(environment: &Id, rollout: &Rollout, what: &'static str) -> Error {
    let environment = environment.to_string();
    Error::RolloutState { environment, state: rollout.at.state.name(), what }
}

fn wire(environment: &Id, rollout: &Rollout, nodes: &[Node]) -> WireRollout {
    let rings = of_rings(rollout, nodes);
    let names = rollout.policy.rings.iter().map(|ring| ring.name.to_string());
    WireRollout {
        environment: environment.to_string(),
        state: state(rollout.at.state).into(),
        base_revision: rollout.base,
        target_revision: rollout.at.target,
        ring: rollout.ring_name(rollout.at.ring).to_owned(),
        started_at: Some(rollout.started_at.into()),
        moved_at: Some(rollout.moved_at.into()),
        reason: rollout.reason.clone(),
        rings: names
            .zip(rings)
            .map(|(name, ring)| status(name, &ring, rollout.at.target))
            .collect(),
    }
}

fn status(name: String, ring: &RingHealth<'_>, target: u64) -> RingStatus {
    let connected = ring.nodes.iter().filter(|node| node.connected);
    let done = connected.clone().filter(|node| has(node, target)).count();
    let count = |nodes: usize| u32::try_from(nodes).unwrap_or(u32::MAX);
    RingStatus {
        name,
        nodes: count(connected.count()),
        nodes_done: count(done),
        requests: ring.now.count,
        error_rate: ring.now.error_rate(),
        p99_ms: ring.now.p99_ms().unwrap_or_default(),
        requests_before: ring.before.count,
        error_rate_before: ring.before.error_rate(),
        p99_ms_before: ring.before.p99_ms().unwrap_or_default(),
    }
}

fn state(state: RolloutState) -> State {
    match state {
        RolloutState::Running => State::Running,
        RolloutState::Paused => State::Paused,
        RolloutState::Stopped => State::Stopped,
        RolloutState::Done => State::Done,
        RolloutState::RolledBack => State::RolledBack,
        RolloutState::Undone => State::Undone,
    }
}
