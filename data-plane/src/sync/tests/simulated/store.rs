//! What the control planes of a simulation share: the truth, as a database has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use fastgate::{
    digest::Digest,
    node::v1::{Change, Entity, EntityKind, KeyRecord, SecretRecord, change},
    secret::SecretHash,
};
use prost::Message;

use super::super::{CONFIG, KEYS, Namespace, delete, route, upsert};
use crate::random::Random;

/// Steps the log keeps: a node that is further behind gets a snapshot.
const KEPT: usize = 12;

/// Routes that come and go.
const ROUTES: u64 = 8;

/// Both namespaces, and what ever was committed.
pub(super) struct Store {
    keys: Log,
    config: Log,
    /// Keys that may be used; of those below `issued` all others are revoked, for ever.
    active: BTreeSet<u32>,
    issued: u32,
    committed: BTreeMap<(bool, u32, u64), Digest>,
    /// Which keys were active at each revision of an epoch.
    active_at: BTreeMap<u64, Vec<BTreeSet<u32>>>,
}

/// One namespace as of one revision, and the last steps to it.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) at: Position,
    pub(super) entities: BTreeMap<String, Entity>,
    steps: VecDeque<Step>,
}

/// What is held at one revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Position {
    pub(super) epoch: u32,
    pub(super) revision: u64,
    pub(super) digest: Digest,
}

#[derive(Clone)]
pub(super) struct Step {
    from: Position,
    pub(super) to: Position,
    pub(super) changes: Vec<Change>,
}

impl Position {
    /// As it is written on the wire.
    pub(super) fn epoch_name(&self) -> String {
        format!("e{}", self.epoch)
    }

    /// Reads what a node says; `None`: it is nothing of ours.
    pub(super) fn parse(epoch: &str, revision: u64, digest: &[u8]) -> Option<Self> {
        let (epoch, revision) = Self::place(epoch, revision)?;
        Some(Self { epoch, revision, digest: Digest::from_bytes(digest)? })
    }

    /// The same, without what it is worth.
    pub(super) fn place(epoch: &str, revision: u64) -> Option<(u32, u64)> {
        Some((epoch.strip_prefix('e')?.parse().ok()?, revision))
    }
}

impl Log {
    fn begin(epoch: u32) -> Self {
        let at = Position { epoch, revision: 0, digest: Digest::default() };
        Self { at, entities: BTreeMap::new(), steps: VecDeque::new() }
    }

    fn commit(&mut self, changes: Vec<Change>) {
        let from = self.at;
        for change in &changes {
            let old = match change.change.as_ref().expect("a change") {
                change::Change::Upsert(entity) => {
                    self.at.digest.add(entity);
                    self.entities.insert(entity.id.clone(), entity.clone())
                }
                change::Change::Delete(gone) => self.entities.remove(&gone.id),
            };
            if let Some(old) = old {
                self.at.digest.remove(&old);
            }
        }
        self.at.revision += 1;
        self.steps.push_back(Step { from, to: self.at, changes });
        if self.steps.len() > KEPT {
            self.steps.pop_front();
        }
    }

    /// The steps that lead on from there; `None`: nobody knows them any more, or ever did.
    pub(super) fn steps_from(&self, held: &Position) -> Option<Vec<Step>> {
        let first = self.steps.iter().position(|step| step.from == *held)?;
        Some(self.steps.iter().skip(first).cloned().collect())
    }
}

impl Store {
    pub(super) fn new(chance: &Random) -> Self {
        let mut store = Self {
            keys: Log::begin(0),
            config: Log::begin(0),
            active: BTreeSet::new(),
            issued: 0,
            committed: BTreeMap::new(),
            active_at: BTreeMap::new(),
        };
        store.recreate(chance);
        store
    }

    pub(super) fn log(&self, ns: Namespace) -> &Log {
        if ns == KEYS { &self.keys } else { &self.config }
    }

    /// Every key that ever was, and whether it may be used.
    pub(super) fn keys(&self) -> impl Iterator<Item = (u32, bool)> {
        (0..self.issued).map(|n| (n, self.active.contains(&n)))
    }

    /// Those that may be used.
    pub(super) fn active(&self) -> &BTreeSet<u32> {
        &self.active
    }

    /// Whether just these keys might be used at a revision, of whichever epoch.
    pub(super) fn had(&self, revision: u64, keys: &BTreeSet<u32>) -> bool {
        self.active_at.get(&revision).is_some_and(|states| states.contains(keys))
    }

    /// Whether that is what was committed under its revision.
    pub(super) fn has_committed(&self, ns: Namespace, held: &Position) -> bool {
        let committed = self.committed.get(&(ns == KEYS, held.epoch, held.revision));
        committed == Some(&held.digest)
    }

    /// The environment is deleted and made anew: other keys, other revisions.
    pub(super) fn recreate(&mut self, chance: &Random) {
        let epoch = self.keys.at.epoch + 1;
        (self.keys, self.config) = (Log::begin(epoch), Log::begin(epoch));
        self.active.clear();
        let keys = (0..20).map(|_| self.issue()).collect();
        self.commit(KEYS, keys);
        self.change_config(chance);
    }

    /// One revision of keys: some more, and nearly as often some fewer.
    pub(super) fn change_keys(&mut self, chance: &Random) {
        let is_bulk = chance.next().is_multiple_of(8);
        let count = if is_bulk { 1 + chance.next() % 10 } else { 1 };
        let changes = (0..count).filter_map(|_| {
            if self.active.len() < 40 && chance.next().is_multiple_of(2) {
                return Some(self.issue());
            }
            self.revoke(chance)
        });
        let changes = changes.collect();
        self.commit(KEYS, changes);
    }

    /// One revision of config.
    pub(super) fn change_config(&mut self, chance: &Random) {
        let id = usize::try_from(chance.next() % ROUTES).expect("is small");
        let new = route(id, &format!("http://t{}", chance.next()));
        let is_there = self.config.entities.contains_key(&new.id);
        let goes = is_there && chance.next().is_multiple_of(3);
        self.commit(CONFIG, vec![if goes { delete(&new) } else { upsert(new) }]);
    }

    fn issue(&mut self) -> Change {
        let n = self.issued;
        self.issued += 1;
        self.active.insert(n);
        upsert(key(n, true))
    }

    fn revoke(&mut self, chance: &Random) -> Option<Change> {
        let at = chance.next() % (self.active.len() as u64).max(1);
        let n = *self.active.iter().nth(usize::try_from(at).expect("is small"))?;
        self.active.remove(&n);
        let is_deleted = chance.next().is_multiple_of(2);
        Some(if is_deleted { delete(&key(n, true)) } else { upsert(key(n, false)) })
    }

    fn commit(&mut self, ns: Namespace, changes: Vec<Change>) {
        let log = if ns == KEYS { &mut self.keys } else { &mut self.config };
        log.commit(changes);
        let at = log.at;
        self.committed.insert((ns == KEYS, at.epoch, at.revision), at.digest);
        if ns == KEYS {
            self.active_at.entry(at.revision).or_default().push(self.active.clone());
        }
    }
}

/// The hash of the one secret of a key.
pub(super) fn hash_of(n: u32) -> SecretHash {
    SecretHash::from_bytes(&hash_bytes(n)).expect("is long enough")
}

fn hash_bytes(n: u32) -> Vec<u8> {
    n.to_be_bytes().repeat(8)
}

fn key(n: u32, is_active: bool) -> Entity {
    let record = KeyRecord {
        key_id: format!("k{n}"),
        source_path: "app".into(),
        is_active,
        secrets: vec![SecretRecord { version: 1, hash: hash_bytes(n), ..Default::default() }],
        ..Default::default()
    };
    let value: Bytes = record.encode_to_vec().into();
    Entity { kind: EntityKind::Key.into(), id: record.key_id, value }
}
