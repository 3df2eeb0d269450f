//! The pieces of a snapshot, shared by the nodes that take it at the same time.
//!
//! Each piece is made once: fifty nodes that start before a million keys cost little more than one. They go
//! round: who comes later begins where the others are, and takes what they had before it at the end. Of the
//! pieces made last a few are kept for each of them; who falls behind those goes on alone, and holds up nobody.

use std::{
    collections::VecDeque,
    iter::Peekable,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use fastgate::node::v1::{Entity, EntitySet, SnapshotChunk};
use prost::Message as _;

use super::entities::Entities;

/// Bytes of entities in one piece: a stream of a node that does not read holds a few of them, and
/// what may come between two of them waits for so many. With the largest entity still far below
/// the 1 MiB of the contract.
pub(super) const PIECE: usize = 64 << 10;

/// Pieces kept for those who are a little behind, for each node that takes part: 1 MiB. Nodes that come while
/// keys change all the time make a round each, so what is kept is bounded by the node, not by the round.
const KEPT_EACH: usize = 16;

/// The most kept of one round: 16 MiB.
pub(super) const KEPT: usize = 256;

/// The pieces of one state, as some nodes take them.
pub(super) struct Round(Mutex<Pieces>);

struct Pieces {
    state: Entities,
    /// What is yet to be made this time round.
    entities: Peekable<Box<dyn Iterator<Item = Entity> + Send>>,
    /// The number of the piece that is made next. They are counted on from one time round to the next.
    next: u64,
    /// Those made last, up to that.
    kept: VecDeque<SnapshotChunk>,
    /// How many there are, once all were made.
    count: Option<u64>,
}

/// What a round has for a node.
pub(super) enum Take {
    Piece(SnapshotChunk),
    /// It has all.
    Nothing,
    /// It fell behind.
    Gone,
}

/// The round of a state, while there are nodes that take it. A copy will be another state, and has none.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<Weak<Round>>);

impl UnderWay {
    /// The one there is, or a new one.
    pub(super) fn join(&self, state: impl FnOnce() -> Entities) -> Arc<Round> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.upgrade().unwrap_or_else(|| {
            let round = Arc::new(Round(Mutex::new(Pieces::of(state()))));
            *under_way = Arc::downgrade(&round);
            round
        })
    }

    #[cfg(test)]
    pub(super) fn is_there(&self) -> bool {
        self.0.lock().expect("no panic").strong_count() > 0
    }
}

impl Clone for UnderWay {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Round {
    /// The number of the oldest piece that is kept: where to begin.
    pub(super) fn oldest(&self) -> u64 {
        self.lock().oldest()
    }

    /// What comes for a node that began with the piece `first` and has taken so many.
    pub(super) fn take(self: &Arc<Self>, first: u64, taken: u64) -> Take {
        let nodes = Arc::strong_count(self);
        self.lock().take(first, taken, if nodes == 1 { 1 } else { KEPT.min(KEPT_EACH * nodes) })
    }

    /// The same pieces from one on, for one node alone.
    pub(super) fn alone_from(&self, number: u64) -> Arc<Self> {
        let (state, count) = {
            let pieces = self.lock();
            (pieces.state.clone(), pieces.count)
        };
        let mut alone = Pieces::of(state);
        // To pass over a million entities takes a tenth of a second. Others of the round don't wait for it.
        let of_this_time_round = count.map_or(number, |count| number % count.max(1));
        (0..of_this_time_round).for_each(|_| drop(alone.entities_of_one()));
        (alone.next, alone.count) = (number, count);
        Arc::new(Self(Mutex::new(alone)))
    }

    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pieces {
    fn of(state: Entities) -> Self {
        let entities = all(&state);
        Self { state, entities, next: 0, kept: VecDeque::new(), count: None }
    }

    fn oldest(&self) -> u64 {
        self.next - self.kept.len() as u64
    }

    fn take(&mut self, first: u64, taken: u64, most: usize) -> Take {
        let number = first + taken;
        if number < self.oldest() {
            return Take::Gone;
        }
        if number == self.next && self.count != Some(taken) && self.entities.peek().is_none() {
            self.count = self.count.or(Some(self.next));
            self.entities = all(&self.state);
        }
        if self.count == Some(taken) {
            return Take::Nothing;
        }
        if number == self.next {
            self.make(most);
        }
        let place = usize::try_from(number - self.oldest()).unwrap_or(usize::MAX);
        self.kept.get(place).cloned().map_or(Take::Nothing, Take::Piece)
    }

    fn make(&mut self, most: usize) {
        let data = EntitySet { entities: self.entities_of_one() }.encode_to_vec();
        let crc32 = crc32fast::hash(&data);
        self.kept.drain(..(self.kept.len() + 1).saturating_sub(most));
        self.kept.push_back(SnapshotChunk { crc32, data: data.into() });
        self.next += 1;
    }

    fn entities_of_one(&mut self) -> Vec<Entity> {
        let (mut entities, mut size) = (Vec::new(), 0);
        while size < PIECE
            && let Some(entity) = self.entities.next()
        {
            size += entity.encoded_len();
            entities.push(entity);
        }
        entities
    }
}

fn all(state: &Entities) -> Peekable<Box<dyn Iterator<Item = Entity> + Send>> {
    let entities: Box<dyn Iterator<Item = Entity> + Send> = Box::new(state.iter());
    entities.peekable()
}
