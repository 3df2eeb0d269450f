//! Takes a rollout back: what it began from becomes a new revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastgate::{
    model::Id,
    node::v1::{EntityKind, Settings},
};
use prost::Message as _;

use super::{
    super::{
        Result, Tx, history, objects,
        objects::{parse_plan, parse_route, parse_upstream},
        revisions, rollouts,
        value::{broken, id, not_found},
    },
    revision::hold,
    run,
};
use crate::domain::{Actor, Change, Environment, Expect, Namespace, Op, Outcome};

const ACTION: &str = "fastgate.admin.v1.RolloutService/UndoRollout";

/// What was there of an object, and what is now.
type Values = (Option<Bytes>, Option<Bytes>);

/// Commits what the rollout to a revision began from; `None`, and nothing is written, where it is over.
pub(in super::super) async fn undo(
    tx: &mut Tx,
    environment: &Id,
    target: u64,
    actor: &Actor,
) -> Result<Option<Outcome>> {
    // So that it is still under way, and the config what it is, when this is committed.
    hold(tx, environment, Namespace::Config).await?;
    let rollout = rollouts::one(tx, environment).await?;
    let Some(rollout) = rollout.filter(|it| it.is_active() && it.at.target == target) else {
        return Ok(None);
    };
    let ops = ops(tx, environment, rollout.base).await?;
    let change = Change {
        environment: environment.clone(),
        actor: actor.clone(),
        action: ACTION,
        repeatable: None,
        ops,
        rework: None,
        validate_only: false,
    };
    run(tx, &change).await.map(Some)
}

/// What makes the config what it was at a revision.
async fn ops(tx: &mut Tx, environment: &Id, revision: u64) -> Result<Vec<Op>> {
    let then = history::entities_at(tx, environment, revision).await?;
    let then = then.ok_or_else(|| broken(format!("no way back to config revision {revision}")))?;
    let now = revisions::entities(tx, environment, Namespace::Config).await?;
    let mut values: BTreeMap<(i32, String), Values> = BTreeMap::new();
    for entity in then {
        values.entry((entity.kind, entity.id)).or_default().0 = Some(entity.value);
    }
    for entity in now {
        values.entry((entity.kind, entity.id)).or_default().1 = Some(entity.value);
    }
    let changed = values.into_iter().filter(|(_, (then, now))| then != now);
    let mut ops = Vec::new();
    for ((kind, name), (then, now)) in changed {
        let kind = EntityKind::try_from(kind).map_err(broken)?;
        let expect = if now.is_some() { Expect::Present } else { Expect::Absent };
        ops.push(match (kind, then) {
            (EntityKind::Settings, Some(then)) => {
                let settings = Settings::decode(then).map_err(broken)?;
                Op::PutEnvironment(with(tx, environment, settings).await?, expect)
            }
            (_, then) => op(kind, &name, then.as_deref(), expect)?,
        });
    }
    Ok(ops)
}

fn op(kind: EntityKind, name: &str, then: Option<&[u8]>, expect: Expect) -> Result<Op> {
    Ok(match (kind, then) {
        (EntityKind::Route, Some(then)) => Op::PutRoute(Box::new(parse_route(then)?), expect),
        (EntityKind::Route, None) => Op::DeleteRoute(id(name)?, expect),
        (EntityKind::Upstream, Some(then)) => {
            Op::PutUpstream(Box::new(parse_upstream(then)?), expect)
        }
        (EntityKind::Upstream, None) => Op::DeleteUpstream(id(name)?, expect),
        (EntityKind::Plan, Some(then)) => Op::PutPlan(Box::new(parse_plan(then)?), expect),
        (EntityKind::Plan, None) => Op::DeletePlan(id(name)?, expect),
        (EntityKind::Settings | EntityKind::Key | EntityKind::Unspecified, _) => {
            return Err(broken(format!("{} {name} among the config", kind.noun())));
        }
    })
}

/// The environment as it is, with what its settings were: what people say of it stays.
async fn with(tx: &mut Tx, environment: &Id, then: Settings) -> Result<Environment> {
    let stored = objects::environment(tx, environment.as_str()).await?;
    let stored = stored.ok_or_else(|| not_found("environment", environment.as_str()))?;
    Ok(Environment { default_rate_limit: Some(then.default_rate_limit), ..stored.object })
}
