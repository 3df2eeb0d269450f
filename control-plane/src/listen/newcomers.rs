//! Connections that have not said who they are yet, or are nobody that is known: so many, and the oldest makes
//! room for the next, so that none of them keeps others out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// How many there may be, of all connections: so the others always have the rest.
const MOST: usize = 256;

/// All of them, of one port.
#[derive(Clone, Default)]
pub(super) struct Newcomers(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The number of the next.
    next: u64,
    /// By their numbers, so the oldest first.
    here: BTreeMap<u64, CancellationToken>,
}

/// One of them, until it is dropped.
pub(super) struct Newcomer {
    all: Newcomers,
    number: u64,
    outrun: CancellationToken,
}

impl Newcomers {
    /// One more. Where there are too many, the oldest is to go.
    pub(super) fn enter(&self) -> Newcomer {
        let mut state = self.state();
        if state.here.len() >= MOST
            && let Some((_, oldest)) = state.here.pop_first()
        {
            oldest.cancel();
        }
        let (number, outrun) = (state.next, CancellationToken::new());
        state.next += 1;
        state.here.insert(number, outrun.clone());
        drop(state);
        Newcomer { all: self.clone(), number, outrun }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Newcomer {
    /// Returns when its place is needed for another.
    pub(super) fn outrun(&self) -> WaitForCancellationFuture<'_> {
        self.outrun.cancelled()
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.all.state().here.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_those_that_left_need_none() {
        let all = Newcomers::default();
        let mut here: Vec<_> = (0..MOST).map(|_| all.enter()).collect();
        drop(here.remove(0));
        let next = all.enter();
        assert!(here.iter().all(|newcomer| !newcomer.outrun.is_cancelled()));
        let another = all.enter();
        let outrun: Vec<_> = here.iter().filter(|one| one.outrun.is_cancelled()).collect();
        assert_eq!(outrun.iter().map(|one| one.number).collect::<Vec<_>>(), [1]);
        drop((here, next, another));
        assert!(all.state().here.is_empty());
    }
}
