//! The task that keeps the histories up with the store.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use fastgate::model::Id;
use tokio::sync::watch;

use super::{
    Shared,
    history::{Fault, History},
    staging::Published,
};
use crate::{
    domain::{Namespace, Rollout},
    store::{Head, News, StoreError, within},
};

/// How often the store is asked even if it announced nothing.
const POLL: Duration = Duration::from_secs(1);

/// How long the store may take to say what there is.
const ASKING: Duration = Duration::from_secs(5);

/// The same to read what there is of one namespace.
const READING: Duration = Duration::from_secs(60);

/// Revisions read from the log in one go.
const READ: u32 = 256;

/// Follows the store for ever.
pub(super) async fn run(shared: &Shared) {
    let (mut is_away, mut failing) = (false, HashSet::new());
    loop {
        match catch_up(shared, &mut failing).await {
            Ok(()) => {
                if std::mem::take(&mut is_away) {
                    tracing::info!("the database is back");
                }
            }
            Err(fault) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(error = %fault, "can't follow the database, nodes keep what they have");
                }
            }
        }
        tokio::select! {
            () = shared.store.changed(News::Config) => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Brings all that can be read up to date. What can't be holds up nothing else; `failing` is what of it was
/// told.
///
/// # Errors
/// That of the heads, or the first of them that could not be followed.
async fn catch_up(
    shared: &Shared,
    failing: &mut HashSet<(Id, Namespace)>,
) -> Result<(), StoreError> {
    let begun = Instant::now();
    let heads = within(ASKING, shared.store.heads()).await?;
    shared.note_heard();
    let known: HashSet<_> = heads.iter().map(|head| (head.environment.clone(), head.ns)).collect();
    failing.retain(|name| known.contains(name));
    let mut first = None;
    for head in &heads {
        let (environment, ns) = (&head.environment, head.ns);
        match within(READING, follow(shared, head)).await {
            Ok(()) => {
                if failing.remove(&(environment.clone(), ns)) {
                    tracing::info!(%environment, ?ns, "it can be read again");
                }
            }
            Err(fault) => {
                if failing.insert((environment.clone(), ns)) {
                    tracing::warn!(%environment, ?ns, error = %fault, "can't read what there is");
                }
                first = first.or(Some(fault));
            }
        }
    }
    let mut tracks = shared.tracks.write().unwrap_or_else(PoisonError::into_inner);
    tracks.retain(|name, track| {
        let is_there = known.contains(name);
        if !is_there {
            track.send_replace(None);
        }
        is_there
    });
    drop(tracks);
    if heads.iter().all(|head| has_reached(shared, head)) {
        *shared.caught_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
    }
    shared.ready.send_replace(true);
    first.map_or(Ok(()), Err)
}

/// Whether what nodes are sent is as new as a head.
fn has_reached(shared: &Shared, head: &Head) -> bool {
    let published = shared.track(&head.environment, head.ns).and_then(|it| it.borrow().clone());
    published.is_some_and(|Published { head: held, .. }| {
        let is_it = held.revision == head.revision && held.digest == head.digest;
        held.epoch == head.epoch && (is_it || held.revision > head.revision)
    })
}

/// Brings one namespace up to a head, and no further: what is beyond it may be held back.
async fn follow(shared: &Shared, head: &Head) -> Result<(), StoreError> {
    let published = shared.track(&head.environment, head.ns).and_then(|it| it.borrow().clone());
    let Some(published) = published.filter(|it| it.head.epoch == head.epoch) else {
        return load(shared, head).await;
    };
    let held = published.head.revision;
    if published.is(head) {
        return Ok(());
    }
    // A database restored to an earlier state may have come to the same number another way.
    let is_same = held == head.revision && published.head.digest == head.digest;
    if held >= head.revision && !is_same {
        shared.note_set_back(&head.environment, head.ns, held, head.revision);
        return load(shared, head).await;
    }
    let held_back = held_back(head);
    let mut base = held_back.and_then(|it| published.at(it.base, it.base_digest));
    let mut history = (*published.head).clone();
    while history.revision < head.revision {
        let rows = shared.store.log(&head.environment, head.ns, history.revision, READ).await?;
        shared.note_heard();
        if rows.first().is_none_or(|row| row.revision > head.revision) {
            return load(shared, head).await;
        }
        for row in rows.iter().take_while(|row| row.revision <= head.revision) {
            if let Err(fault) = history.advance(row) {
                let (environment, ns) = (&head.environment, head.ns);
                tracing::warn!(%environment, ?ns, error = %fault, "reading everything anew");
                if history.revision == held && matches!(fault, Fault::Digest(_)) {
                    // What comes next does not follow on what was here: that was lost.
                    shared.note_set_back(environment, ns, held, held);
                }
                return load(shared, head).await;
            }
            if held_back.is_some_and(|it| it.base == history.revision) {
                base = Some(Arc::new(history.clone()));
            }
        }
    }
    publish(shared, head, history, base).await
}

async fn load(shared: &Shared, head: &Head) -> Result<(), StoreError> {
    let found = shared.store.entities(&head.environment, head.ns).await?;
    shared.note_heard();
    let Some((head, entities)) = found else {
        // Deleted since; the next round takes it out.
        return Ok(());
    };
    match History::load(&head, entities) {
        Ok(history) => publish(shared, &head, history, None).await,
        // Going on with what is here would send nodes a state no digest vouches for.
        Err(fault) => {
            let (environment, ns) = (&head.environment, head.ns);
            tracing::error!(%environment, ?ns, error = %fault, "the database was changed by other hands");
            Ok(())
        }
    }
}

/// Makes a history known that has come to a head; `base`: what its rollout began from, if that is known.
async fn publish(
    shared: &Shared,
    head: &Head,
    history: History,
    base: Option<Arc<History>>,
) -> Result<(), StoreError> {
    let history = Arc::new(history);
    let published = match held_back(head) {
        None => Published::to_all(history),
        Some(rollout) => {
            let base = match base {
                Some(base) => Some(base),
                None => load_base(shared, head, rollout).await?,
            };
            // Without it nodes keep what they have: no ring may get what is meant for another.
            let Some(base) = base else { return Ok(()) };
            Published::held_back(history, rollout.clone(), base)
        }
    };
    if let Some(track) = shared.track(&head.environment, head.ns) {
        track.send_replace(Some(published));
        return Ok(());
    }
    let mut tracks = shared.tracks.write().unwrap_or_else(PoisonError::into_inner);
    let track = Arc::new(watch::Sender::new(Some(published)));
    tracks.insert((head.environment.clone(), head.ns), track);
    Ok(())
}

/// The rollout that holds a head back.
fn held_back(head: &Head) -> Option<&Rollout> {
    head.rollout.as_ref().filter(|rollout| rollout.is_active())
}

/// What a rollout began from, out of the store.
async fn load_base(
    shared: &Shared,
    head: &Head,
    rollout: &Rollout,
) -> Result<Option<Arc<History>>, StoreError> {
    let environment = &head.environment;
    let entities = shared.store.config_entities_at(environment, rollout.base).await?;
    let base = Head { revision: rollout.base, digest: rollout.base_digest, ..head.clone() };
    let loaded = entities.map(|entities| History::load(&base, entities));
    match loaded {
        Some(Ok(history)) => return Ok(Some(Arc::new(history))),
        Some(Err(fault)) => {
            tracing::error!(%environment, error = %fault, "what a rollout began from is not what it was");
        }
        None => {
            let revision = rollout.base;
            tracing::error!(%environment, revision, "what a rollout began from can't be read any more");
        }
    }
    Ok(None)
}
