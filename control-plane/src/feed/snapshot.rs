//! Everything of one namespace on its way to one node, made piece by piece as the node takes it.

use fastgate::node::v1::{
    self, Entity, EntitySet, SnapshotBegin, SnapshotChunk, SnapshotEnd, control_message::Body,
};
use prost::Message as _;

use super::history::History;
use crate::domain::Namespace;

/// Bytes of entities in one chunk: a stream of a node that does not read holds a few of them, and
/// what may come between two of them waits for so many. With the largest entity still far below
/// the 1 MiB of the contract.
const CHUNK: usize = 64 << 10;

/// The messages of a snapshot, in order.
pub(super) struct Snapshot {
    begin: Option<SnapshotBegin>,
    /// Those not yet sent, in no order. They share their bytes with the state they are of.
    entities: Box<dyn Iterator<Item = Entity> + Send>,
    end: Option<SnapshotEnd>,
}

impl Snapshot {
    pub(super) fn of(ns: Namespace, state: &History) -> Self {
        Self {
            begin: Some(SnapshotBegin {
                ns: v1::Namespace::from(ns).into(),
                epoch: state.epoch.clone(),
                revision: state.revision,
                entity_count: state.len() as u64,
            }),
            entities: Box::new(state.entities()),
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
        let chunk = self.chunk();
        if chunk.is_empty() {
            return self.end.take().map(Body::SnapshotEnd);
        }
        let data = EntitySet { entities: chunk }.encode_to_vec();
        let crc32 = crc32fast::hash(&data);
        Some(Body::SnapshotChunk(SnapshotChunk { crc32, data: data.into() }))
    }
}

impl Snapshot {
    fn chunk(&mut self) -> Vec<Entity> {
        let mut chunk = Vec::new();
        let mut size = 0;
        while size < CHUNK
            && let Some(entity) = self.entities.next()
        {
            size += entity.encoded_len();
            chunk.push(entity);
        }
        chunk
    }
}
