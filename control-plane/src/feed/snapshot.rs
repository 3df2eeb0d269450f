//! The messages that give one node everything of one namespace.

use std::sync::Arc;

use fastgate::node::v1::{self, SnapshotBegin, SnapshotEnd, control_message::Body};

use super::{
    history::History,
    round::{Round, Take},
};
use crate::domain::Namespace;

/// The messages of a snapshot, in order, for one node.
pub(super) struct Snapshot {
    begin: Option<SnapshotBegin>,
    round: Arc<Round>,
    /// The number of its first piece.
    first: u64,
    taken: u64,
    end: Option<SnapshotEnd>,
}

impl Snapshot {
    pub(super) fn of(ns: Namespace, state: &History) -> Self {
        let entities = || state.entities();
        let round = state.under_way.join(entities);
        Self {
            begin: Some(SnapshotBegin {
                ns: v1::Namespace::from(ns).into(),
                epoch: state.epoch.clone(),
                revision: state.revision,
                entity_count: state.len() as u64,
            }),
            first: round.oldest(),
            round,
            taken: 0,
            end: Some(SnapshotEnd { digest: state.digest.to_bytes().to_vec() }),
        }
    }
}

impl Iterator for Snapshot {
    type Item = Body;

    fn next(&mut self) -> Option<Body> {
        if let Some(begin) = self.begin.take() {
            return Some(Body::SnapshotBegin(begin));
        }
        let mut found = self.round.take(self.first, self.taken);
        if let Take::Gone = found {
            self.round = self.round.alone_from(self.first + self.taken);
            found = self.round.take(self.first, self.taken);
        }
        if let Take::Piece(piece) = found {
            self.taken += 1;
            return Some(Body::SnapshotChunk(piece));
        }
        self.end.take().map(Body::SnapshotEnd)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fastgate::{
        digest::Digest,
        model::Id,
        node::v1::{Entity, EntityKind, EntitySet},
    };
    use prost::Message as _;

    use super::*;
    use crate::{
        feed::round::{KEPT, PIECE},
        store::Head,
    };

    /// Of about so many pieces.
    fn state(pieces: usize) -> History {
        let entity = |number: usize| Entity {
            kind: EntityKind::Key.into(),
            id: format!("k{number}"),
            value: vec![7; PIECE / 8].into(),
        };
        let entities: Vec<_> = (0..pieces * 8).map(entity).collect();
        let digest = entities.iter().cloned().collect::<Digest>();
        let head = Head {
            environment: Id::parse("default").expect("an id"),
            ns: Namespace::Keys,
            epoch: "e1".into(),
            revision: 1,
            digest,
            rollout: None,
        };
        History::load(&head, entities).expect("fits")
    }

    /// The names in the next messages, up to so many; whether the end was among them.
    fn take(snapshot: &mut Snapshot, messages: usize, names: &mut Vec<String>) -> bool {
        for body in snapshot.by_ref().take(messages) {
            match body {
                Body::SnapshotChunk(piece) => {
                    assert_eq!(crc32fast::hash(&piece.data), piece.crc32);
                    let set = EntitySet::decode(piece.data).expect("entities");
                    names.extend(set.entities.into_iter().map(|entity| entity.id));
                }
                Body::SnapshotEnd(_) => return true,
                _ => {}
            }
        }
        false
    }

    fn assert_all(names: &[String], state: &History) {
        let different: BTreeSet<_> = names.iter().collect();
        assert_eq!((names.len(), different.len()), (state.len(), state.len()));
    }

    #[test]
    fn each_node_gets_all_once_whenever_it_comes_and_however_slow_it_is() {
        for (pieces, paces) in [
            (0, &[1, 1][..]),
            (1, &[1, 1]),
            (40, &[1, 1, 1]),
            (40, &[7, 1, 3]),
            (KEPT * 2, &[5, 1, 50]),
            (KEPT * 3, &[1, 60]),
        ] {
            let state = state(pieces);
            let mut nodes: Vec<(Snapshot, Vec<String>, bool)> = Vec::new();
            let mut turns = 0;
            while nodes.len() < paces.len() || nodes.iter().any(|(_, _, is_done)| !is_done) {
                // One comes every nine turns.
                if turns % 9 == 0 && nodes.len() < paces.len() {
                    nodes.push((Snapshot::of(Namespace::Keys, &state), Vec::new(), false));
                }
                for ((snapshot, names, is_done), pace) in nodes.iter_mut().zip(paces) {
                    *is_done = *is_done || take(snapshot, *pace, names);
                }
                turns += 1;
            }
            nodes.iter().for_each(|(_, names, _)| assert_all(names, &state));
        }
    }

    #[test]
    fn what_is_kept_is_bounded_by_the_nodes_that_take_part() {
        let state = state(100);
        let kept = |snapshot: &Snapshot| snapshot.taken - snapshot.round.oldest();
        let mut slow = Snapshot::of(Namespace::Keys, &state);
        take(&mut slow, 21, &mut Vec::new());
        assert_eq!(kept(&slow), 1, "alone");
        let mut fast = Snapshot::of(Namespace::Keys, &state);
        take(&mut fast, 60, &mut Vec::new());
        assert_eq!(fast.first + kept(&fast), 32, "two of them");
        let before = Arc::clone(&slow.round);
        take(&mut slow, 20, &mut Vec::new());
        assert!(!Arc::ptr_eq(&slow.round, &before), "it fell behind");
        assert_eq!(kept(&slow), 1, "alone again");
    }

    #[test]
    fn nodes_that_come_together_share_what_is_made_and_later_states_begin_anew() {
        let state = state(20);
        let [mut one, mut other] = [(); 2].map(|()| Snapshot::of(Namespace::Keys, &state));
        let data = |snapshot: &mut Snapshot| {
            let piece = snapshot.find_map(|body| match body {
                Body::SnapshotChunk(piece) => Some(piece.data),
                _ => None,
            });
            piece.expect("a piece").as_ptr()
        };
        for _ in 0..20 {
            assert_eq!(data(&mut one), data(&mut other));
        }
        let copy = state.clone();
        assert!(!Arc::ptr_eq(&one.round, &Snapshot::of(Namespace::Keys, &copy).round));
        drop((one, other));
        assert!(!state.under_way.is_there());
    }
}
