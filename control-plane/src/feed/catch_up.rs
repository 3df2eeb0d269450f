//! What a node missed, from the store's log: for nodes that memory does not reach back to.

use std::sync::Arc;

use fastgate::{digest::Digest, model::Id};

use super::{
    Shared,
    history::{History, Position, Step},
};
use crate::domain::Namespace;

/// Revisions read for one node at a time. Config that is further behind comes as a snapshot.
pub(super) const CATCH_UP: u32 = 1024;

/// The steps from what a node holds towards a head, as many as are read at once. `None` where the log
/// does not reach back as far, can't be read, or says that the node holds something else.
pub(super) async fn logged_steps(
    shared: Arc<Shared>,
    environment: Id,
    ns: Namespace,
    holds: Position,
    head: Arc<History>,
) -> Option<Vec<Step>> {
    // From one earlier, whose digest says what the node should hold.
    let before = holds.revision.saturating_sub(1);
    let rows = shared.store.log(&environment, ns, before, CATCH_UP + 2).await.ok()?;
    let mut steps = Vec::with_capacity(rows.len());
    for row in rows.iter().filter(|row| row.revision <= head.revision) {
        steps.push(Step::read(row, &head.epoch).ok()?);
    }
    let after = steps.split_off(steps.partition_point(|step| step.revision <= holds.revision));
    let held_digest = match steps.last() {
        Some(step) => step.digest,
        None if holds.revision == 0 => Digest::default(),
        None => return None,
    };
    let follows = |step: &Step| step.revision == holds.revision + 1;
    (held_digest == holds.digest && after.first().is_some_and(follows)).then_some(after)
}
