//! The task that keeps the histories up with the store.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    Shared,
    history::{Fault, History},
};
use crate::store::{Head, News, StoreError};

/// How often the store is asked even if it announced nothing.
const POLL: Duration = Duration::from_secs(1);

/// How long the store may take to say what there is: on a dead network it would be waited for until the
/// system gives up, and another server may have taken over long before.
const ASKING: Duration = Duration::from_secs(5);

/// The same to read what there is of one namespace.
const READING: Duration = Duration::from_secs(60);

/// Revisions read from the log in one go.
const READ: u32 = 256;

/// Follows the store for ever.
pub(super) async fn run(shared: &Shared) {
    let mut is_away = false;
    loop {
        match catch_up(shared).await {
            Ok(()) => {
                if std::mem::take(&mut is_away) {
                    tracing::info!("the database is back");
                }
                shared.ready.send_replace(true);
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

async fn catch_up(shared: &Shared) -> Result<(), StoreError> {
    let begun = Instant::now();
    let heads = within(ASKING, shared.store.heads()).await?;
    let known: HashSet<_> = heads.iter().map(|head| (head.environment.clone(), head.ns)).collect();
    for head in &heads {
        within(READING, follow(shared, head)).await?;
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
    Ok(())
}

async fn within<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| Err(StoreError::silent()))
}

/// Whether what nodes are sent is as new as a head.
fn has_reached(shared: &Shared, head: &Head) -> bool {
    let held = shared.track(&head.environment, head.ns).and_then(|track| track.borrow().clone());
    held.is_some_and(|held| {
        let is_it = held.revision == head.revision && held.digest == head.digest;
        held.epoch == head.epoch && (is_it || held.revision > head.revision)
    })
}

/// Brings one namespace up to a head.
async fn follow(shared: &Shared, head: &Head) -> Result<(), StoreError> {
    let held = shared.track(&head.environment, head.ns);
    let held = held.and_then(|track| track.borrow().clone());
    let Some(held) = held.filter(|held| held.epoch == head.epoch) else {
        return load(shared, head).await;
    };
    if held.revision > head.revision {
        shared.note_set_back(&head.environment, head.ns, held.revision, head.revision);
        return load(shared, head).await;
    }
    if held.revision == head.revision {
        if held.digest == head.digest {
            return Ok(());
        }
        // A database restored to an earlier state has come to the same number another way.
        shared.note_set_back(&head.environment, head.ns, held.revision, head.revision);
        return load(shared, head).await;
    }
    let mut history = (*held).clone();
    while history.revision < head.revision {
        let rows = shared.store.log(&head.environment, head.ns, history.revision, READ).await?;
        if rows.is_empty() {
            return load(shared, head).await;
        }
        for row in &rows {
            if let Err(fault) = history.advance(row) {
                let (environment, ns) = (&head.environment, head.ns);
                tracing::warn!(%environment, ?ns, error = %fault, "reading everything anew");
                if history.revision == held.revision && matches!(fault, Fault::Digest(_)) {
                    // What comes next does not follow on what was here: that was lost.
                    shared.note_set_back(environment, ns, held.revision, held.revision);
                }
                return load(shared, head).await;
            }
        }
    }
    publish(shared, head, history);
    Ok(())
}

async fn load(shared: &Shared, head: &Head) -> Result<(), StoreError> {
    let Some((head, entities)) = shared.store.entities(&head.environment, head.ns).await? else {
        // Deleted since; the next round takes it out.
        return Ok(());
    };
    match History::load(&head, entities) {
        Ok(history) => publish(shared, &head, history),
        // Going on with what is here would send nodes a state no digest vouches for.
        Err(fault) => {
            let (environment, ns) = (&head.environment, head.ns);
            tracing::error!(%environment, ?ns, error = %fault, "the database was changed by other hands");
        }
    }
    Ok(())
}

fn publish(shared: &Shared, head: &Head, history: History) {
    let history = Some(Arc::new(history));
    if let Some(track) = shared.track(&head.environment, head.ns) {
        track.send_replace(history);
        return;
    }
    let mut tracks = shared.tracks.write().unwrap_or_else(PoisonError::into_inner);
    tracks.insert((head.environment.clone(), head.ns), Arc::new(watch::Sender::new(history)));
}
