//! The keys of a node for benchmarks: as a control plane sends them, taken in as the follower does.

#![allow(clippy::expect_used, reason = "a benchmark of what fails would measure nothing")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use fastgate::{
    digest::Digest,
    model::Id,
    node::v1::{
        self, Change, ControlMessage, Delta, Entity, EntityKind, EntitySet, KeyRecord,
        SecretRecord, SnapshotBegin, SnapshotChunk, SnapshotEnd, change, control_message::Body,
    },
    secret::SecretHash,
};
use prost::Message;

use super::{
    Namespace,
    replica::{Outcome, Replica, Step},
};
use crate::snapshot::{SnapshotCell, SnapshotReader};

/// Keys in one chunk: less than 1 MiB, as a control plane makes them.
const CHUNK: usize = 4096;

const EPOCH: &str = "e1";

/// From one changed key to the next: odd and no multiple of 5, so that every key has its turn.
const STRIDE: u64 = 7_919;

/// What a control plane sends to a node that holds nothing: ordinary keys, in this number.
pub struct Cold {
    count: u64,
    chunks: Vec<SnapshotChunk>,
    digest: Digest,
}

impl Cold {
    /// The keys from 0 to `count`.
    #[must_use]
    pub fn keys(count: u64) -> Self {
        let mut digest = Digest::default();
        let numbers: Vec<_> = (0..count).collect();
        let chunks = numbers.chunks(CHUNK).map(|part| {
            let entities: Vec<_> = part.iter().map(|number| key(*number, 0)).collect();
            entities.iter().for_each(|entity| digest.add(entity));
            let data: Bytes = EntitySet { entities }.encode_to_vec().into();
            SnapshotChunk { crc32: crc32fast::hash(&data), data }
        });
        Self { count, chunks: chunks.collect(), digest }
    }
}

/// A node that follows a control plane, and what that one has.
pub struct Node {
    replica: Replica,
    cell: SnapshotCell,
    reader: SnapshotReader,
    count: u64,
    revision: u64,
    digest: Digest,
}

impl Node {
    /// One that took in a whole snapshot.
    #[must_use]
    pub fn load(cold: &Cold) -> Self {
        let cell = SnapshotCell::default();
        let mut node = Self {
            replica: Replica::new(Id::default_environment()),
            reader: cell.reader(),
            cell,
            count: cold.count,
            revision: 0,
            digest: cold.digest,
        };
        node.take_all(Namespace::Config, 0, &[], Digest::default());
        node.take_all(Namespace::Keys, cold.count, &cold.chunks, cold.digest);
        node
    }

    /// How long the node takes to put one change in force.
    pub fn timed_change(&mut self) -> Duration {
        let sent = self.next_change();
        let received = Instant::now();
        self.take(sent);
        received.elapsed()
    }

    /// Whether the secret of a key opens it, as a worker finds out.
    #[must_use]
    pub fn opens(&mut self, number: u64) -> bool {
        let hash = SecretHash::from_bytes(&secret(number));
        let snapshot = self.reader.load();
        snapshot.zip(hash).is_some_and(|(snapshot, hash)| snapshot.keys.get(&hash).is_some())
    }

    /// A change of every key in turn, all over the table.
    fn next_change(&mut self) -> Body {
        let number = self.revision.wrapping_mul(STRIDE) % self.count;
        let round = self.revision / self.count;
        let changed = key(number, round + 1);
        self.digest.remove(&key(number, round));
        self.digest.add(&changed);
        self.revision += 1;
        Body::Delta(Delta {
            ns: v1::Namespace::Keys.into(),
            epoch: EPOCH.into(),
            from: self.revision - 1,
            to: self.revision,
            changes: vec![Change { change: Some(change::Change::Upsert(changed)) }],
            digest_after: self.digest.to_bytes().to_vec(),
        })
    }

    fn take_all(&mut self, ns: Namespace, count: u64, chunks: &[SnapshotChunk], digest: Digest) {
        self.take(Body::SnapshotBegin(SnapshotBegin {
            ns: ns.to_wire().into(),
            epoch: EPOCH.into(),
            revision: 0,
            entity_count: count,
        }));
        for chunk in chunks {
            self.take(Body::SnapshotChunk(chunk.clone()));
        }
        self.take(Body::SnapshotEnd(SnapshotEnd { digest: digest.to_bytes().to_vec() }));
    }

    fn take(&mut self, body: Body) {
        let step = self.replica.receive(ControlMessage { body: Some(body) }).expect("no fault");
        if let Step::Update(update) = step {
            let outcome = self.replica.admit(update);
            assert!(matches!(outcome, Outcome::InForce(_)), "{outcome:?}");
            if let Some(snapshot) = self.replica.snapshot() {
                self.cell.store(snapshot);
            }
        }
    }
}

/// A key as a control plane makes it; each round says something else of it.
fn key(number: u64, round: u64) -> Entity {
    let key_id = format!("key-0192f3c8a{:07x}{:016x}", number, mix(number));
    let permissions = ["orders:read", "orders:write"].iter().take((number % 3) as usize);
    let record = KeyRecord {
        source_path: format!("app_{number:08}"),
        permissions: permissions.map(|name| (*name).to_owned()).collect(),
        is_active: true,
        rate_limit: i64::try_from(60 + round).ok(),
        secrets: vec![SecretRecord {
            version: 1,
            hash: secret(number).into(),
            created_at_ms: 1_795_000_000_000,
            ..Default::default()
        }],
        key_id: key_id.clone(),
        ..Default::default()
    };
    Entity { kind: EntityKind::Key.into(), id: key_id, value: record.encode_to_vec().into() }
}

/// What stands for the hash of a secret: as evenly spread as one.
fn secret(number: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    for (part, salt) in hash.chunks_mut(8).zip(1..) {
        part.copy_from_slice(&mix(number ^ (salt << 56)).to_ne_bytes());
    }
    hash
}

/// SplitMix64: spreads consecutive numbers over all there are.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocations::bytes_of_this_thread;

    /// Bytes asked for to put one change in force, the most of a number of changes.
    fn cost_among(count: u64) -> usize {
        let mut node = Node::load(&Cold::keys(count));
        let costs = (0..20).map(|_| {
            let sent = node.next_change();
            let before = bytes_of_this_thread();
            node.take(sent);
            bytes_of_this_thread() - before
        });
        costs.max().expect("a change")
    }

    /// What is copied is all that a change of a persistent table costs, so this holds its time too.
    #[test]
    fn a_change_copies_as_much_among_many_keys_as_among_few() {
        let (few, many) = (cost_among(1_000), cost_among(50_000));
        println!("{few} bytes among 1,000 keys, {many} among 50,000");
        assert!(many < few * 3 / 2, "{few} bytes among 1,000 keys, {many} among 50,000");
    }

    #[test]
    fn every_key_is_opened_by_its_secret_before_and_after_it_changed() {
        let mut node = Node::load(&Cold::keys(1_000));
        for round in 0..3 {
            assert!((0..1_000).all(|number| node.opens(number)), "round {round}");
            assert!(!node.opens(1_000));
            let changes = (0..1_000).map(|_| node.timed_change());
            assert!(changes.sum::<Duration>() > Duration::ZERO);
        }
    }
}
