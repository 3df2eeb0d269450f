//! What goes down a node's stream, one message at a time.

use std::time::Duration;

use fastgate::node::v1::{
    self, ControlMessage, Delta, Entity, EntitySet, SnapshotBegin, SnapshotChunk, SnapshotEnd,
    control_message::Body,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::Status;

use super::history::{History, Step, merge};
use crate::domain::Namespace;

/// A node that takes nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of entities in one chunk. Below the 1 MiB of the contract by more than the largest entity.
const CHUNK: usize = 768 << 10;

/// The sending end of a node's stream.
#[derive(Clone)]
pub(super) struct Outbox(pub(super) mpsc::Sender<Result<ControlMessage, Status>>);

impl Outbox {
    pub(super) async fn send(&self, body: Body) -> Result<(), Status> {
        let message = Ok(ControlMessage { body: Some(body) });
        match tokio::time::timeout(PATIENCE, self.0.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the node closed the stream")),
            Err(_) => Err(Status::deadline_exceeded("the node reads too slowly")),
        }
    }

    /// Sends everything, encoding one chunk at a time: many nodes at once cost one state.
    pub(super) async fn send_snapshot(&self, ns: Namespace, state: &History) -> Result<(), Status> {
        self.send(Body::SnapshotBegin(SnapshotBegin {
            ns: v1::Namespace::from(ns).into(),
            epoch: state.epoch.clone(),
            revision: state.revision,
            entity_count: state.len() as u64,
        }))
        .await?;
        let mut chunk = Vec::new();
        let mut size = 0;
        for entity in state.entities() {
            size += entity.encoded_len();
            chunk.push(entity);
            if size >= CHUNK {
                size = 0;
                self.send(encode(std::mem::take(&mut chunk))).await?;
            }
        }
        if !chunk.is_empty() {
            self.send(encode(chunk)).await?;
        }
        let digest = state.digest.to_bytes().to_vec();
        self.send(Body::SnapshotEnd(SnapshotEnd { digest })).await
    }

    /// Sends what changed between `from` and the last of `steps`.
    pub(super) async fn send_delta(
        &self,
        ns: Namespace,
        epoch: &str,
        from: u64,
        steps: &[Step],
    ) -> Result<(), Status> {
        let Some(last) = steps.last() else { return Ok(()) };
        self.send(Body::Delta(Delta {
            ns: v1::Namespace::from(ns).into(),
            epoch: epoch.to_owned(),
            from,
            to: last.revision,
            changes: merge(steps),
            digest_after: last.digest.to_bytes().to_vec(),
        }))
        .await
    }
}

fn encode(entities: Vec<Entity>) -> Body {
    let data = EntitySet { entities }.encode_to_vec();
    Body::SnapshotChunk(SnapshotChunk { crc32: crc32fast::hash(&data), data: data.into() })
}
