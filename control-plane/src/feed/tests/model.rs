//! A node that keeps what it is sent and checks every digest on the way.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use fastgate::{
    digest::Digest,
    node::v1::{
        Ack, ControlMessage, Delta, Entity, EntityError, EntityKind, EntitySet, Heartbeat, Held,
        Hello, Nack, Namespace, Refusal, SnapshotBegin, SnapshotChunk, SnapshotEnd, change,
        control_message, node_message::Body,
    },
};
use prost::Message as _;
use tonic::Status;

use super::{Plane, Wire, namespaces};

/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A node's memory, which outlives its streams.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) node_id: String,
    pub(super) environment: String,
    pub(super) sides: BTreeMap<i32, Side>,
    pub(super) labels: Vec<String>,
    /// What it says it refused.
    pub(super) refused: Option<Refusal>,
}

/// What is held of one namespace.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Side {
    pub(super) epoch: String,
    pub(super) revision: u64,
    pub(super) entities: BTreeMap<(i32, String), Bytes>,
}

/// A node and its stream.
pub(super) struct Stream {
    pub(super) node: Node,
    pub(super) wire: Wire,
    /// The snapshot that is coming, and how many entities it is to have.
    coming: Option<(Namespace, Side, u64)>,
    /// Of snapshots, so far.
    pub(super) chunks: usize,
}

/// A whole step that came down the stream. Nothing is held of it yet.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Step {
    Snapshot(Namespace, Side),
    Delta(Delta),
    Heartbeat(Heartbeat),
    Drain,
    /// The stream ended; `None`: without a fault.
    End(Option<tonic::Code>),
}

impl Node {
    pub(super) fn new(environment: &str) -> Self {
        let (node_id, environment) = ("n1".to_owned(), environment.to_owned());
        Self { node_id, environment, sides: BTreeMap::new(), labels: Vec::new(), refused: None }
    }

    pub(super) fn named(self, node_id: &str) -> Self {
        Self { node_id: node_id.to_owned(), ..self }
    }

    pub(super) fn hello(&self) -> Hello {
        let held = |(ns, side): (&i32, &Side)| Held {
            ns: *ns,
            epoch: side.epoch.clone(),
            revision: side.revision,
            digest: side.digest().to_bytes().to_vec(),
        };
        Hello {
            node_id: self.node_id.clone(),
            boot_id: "boot-1".into(),
            version: "0.0.0".into(),
            environment: self.environment.clone(),
            held: self.sides.iter().map(held).collect(),
            refused: self.refused.iter().cloned().collect(),
            labels: self.labels.clone(),
            ..Hello::default()
        }
    }

    pub(super) async fn connect(self, plane: &Plane) -> Stream {
        let hello = self.hello();
        self.connect_with(plane, hello).await
    }

    /// Connects, and says something else of itself.
    pub(super) async fn connect_with(self, plane: &Plane, hello: Hello) -> Stream {
        let wire = plane.dial().await;
        wire.say(Body::Hello(hello)).await;
        self.on(wire)
    }

    /// Goes on, on a stream that has heard its hello.
    pub(super) fn on(self, wire: Wire) -> Stream {
        Stream { node: self, wire, coming: None, chunks: 0 }
    }

    /// Connects, and takes both namespaces up to where they are now.
    pub(super) async fn follow(self, plane: &Plane) -> Stream {
        let mut stream = self.connect(plane).await;
        for ns in namespaces() {
            stream.take(ns, 0).await;
        }
        stream
    }

    pub(super) fn side(&self, ns: Namespace) -> Side {
        self.sides.get(&ns.into()).cloned().unwrap_or_default()
    }

    pub(super) fn revision(&self, ns: Namespace) -> u64 {
        self.side(ns).revision
    }
}

impl Side {
    pub(super) fn digest(&self) -> Digest {
        self.entities().collect()
    }

    fn entities(&self) -> impl Iterator<Item = Entity> {
        self.entities.iter().map(|((kind, id), value)| Entity {
            kind: *kind,
            id: id.clone(),
            value: value.clone(),
        })
    }

    pub(super) fn insert(&mut self, entity: Entity) {
        self.entities.insert((entity.kind, entity.id), entity.value);
    }

    /// What the side is after a delta, which must fit.
    fn after(mut self, delta: &Delta) -> Self {
        assert_eq!((&delta.epoch, delta.from), (&self.epoch, self.revision), "fits what is held");
        assert!(delta.to > delta.from, "goes on: {delta:?}");
        for change in &delta.changes {
            match change.change.clone().expect("a change") {
                change::Change::Upsert(entity) => self.insert(entity),
                change::Change::Delete(gone) => {
                    self.entities.remove(&(gone.kind, gone.id));
                }
            }
        }
        self.revision = delta.to;
        assert_eq!(self.digest().to_bytes()[..], delta.digest_after[..], "the digest fits");
        self
    }
}

impl Stream {
    /// The next whole step, heartbeats included.
    pub(super) async fn next(&mut self) -> Step {
        loop {
            if let Some(step) = self.read().await {
                return step;
            }
        }
    }

    /// Reads on to the first chunk of a snapshot.
    pub(super) async fn read_into_snapshot(&mut self, ns: Namespace) {
        let chunks = self.chunks;
        while self.coming.as_ref().is_none_or(|(of, ..)| *of != ns) || self.chunks == chunks {
            self.read().await;
        }
    }

    /// Reads one message; a step where it is the last of one.
    async fn read(&mut self) -> Option<Step> {
        let body = match self.message().await {
            Ok(Some(message)) => message.body.expect("a body"),
            Ok(None) => return Some(Step::End(None)),
            Err(status) => return Some(Step::End(Some(status.code()))),
        };
        match body {
            control_message::Body::SnapshotBegin(begin) => self.begin(begin),
            control_message::Body::SnapshotChunk(chunk) => self.chunk(chunk),
            control_message::Body::SnapshotEnd(end) => return Some(self.end_of_snapshot(&end)),
            control_message::Body::Delta(delta) => {
                let within = self.coming.as_ref().map(|(ns, ..)| (*ns, delta.ns()));
                let may_be = [None, Some((Namespace::Config, Namespace::Keys))];
                assert!(may_be.contains(&within), "{within:?}");
                return Some(Step::Delta(delta));
            }
            control_message::Body::Heartbeat(beat) => return Some(Step::Heartbeat(beat)),
            control_message::Body::Drain(_) => return Some(Step::Drain),
            control_message::Body::Question(_) => panic!("the node said that it can't be asked"),
        }
        None
    }

    /// The next step that is not a heartbeat.
    pub(super) async fn step(&mut self) -> Step {
        loop {
            let step = self.next().await;
            if !matches!(step, Step::Heartbeat(_)) {
                return step;
            }
        }
    }

    /// The next heartbeat.
    pub(super) async fn heartbeat(&mut self) -> Heartbeat {
        loop {
            if let Step::Heartbeat(heartbeat) = self.next().await {
                return heartbeat;
            }
        }
    }

    /// How the stream ends.
    pub(super) async fn end(&mut self) -> Option<tonic::Code> {
        loop {
            if let Step::End(code) = self.next().await {
                return code;
            }
        }
    }

    /// Holds and acknowledges steps until a namespace is held at a revision or beyond.
    pub(super) async fn take(&mut self, ns: Namespace, revision: u64) {
        while self.node.sides.get(&ns.into()).is_none_or(|side| side.revision < revision) {
            let step = self.step().await;
            self.hold(&step).await;
        }
    }

    /// Holds a step and acknowledges it.
    pub(super) async fn hold(&mut self, step: &Step) {
        let (ns, side) = match step {
            Step::Snapshot(ns, side) => (*ns, side.clone()),
            Step::Delta(delta) => (delta.ns(), self.node.side(delta.ns()).after(delta)),
            other => panic!("{other:?} can't be held"),
        };
        self.ack(ns, side.revision, side.digest()).await;
        self.node.sides.insert(ns.into(), side);
        self.node.refused.take_if(|refused| refused.nack.as_ref().is_some_and(|it| it.ns() == ns));
    }

    pub(super) async fn ack(&self, ns: Namespace, revision: u64, digest: Digest) {
        let digest = digest.to_bytes().to_vec();
        let ack = Ack { ns: ns.into(), revision, digest, apply_us: 1 };
        self.wire.say(Body::Ack(ack)).await;
    }

    /// Refuses a revision; what a node would remember of it.
    pub(super) async fn nack(&self, ns: Namespace, revision: u64) -> Refusal {
        let errors = vec![EntityError {
            kind: EntityKind::Upstream.into(),
            id: "up".into(),
            field: "targets".into(),
            message: "is odd".into(),
        }];
        let nack = Nack { ns: ns.into(), revision, errors };
        self.wire.say(Body::Nack(nack.clone())).await;
        Refusal { epoch: self.node.side(ns).epoch, nack: Some(nack) }
    }

    /// Leaves, remembering what it holds.
    pub(super) fn leave(self) -> Node {
        self.node
    }

    fn begin(&mut self, begin: SnapshotBegin) {
        assert!(self.coming.is_none(), "a snapshot within another");
        let side = Side { epoch: begin.epoch.clone(), revision: begin.revision, ..Side::default() };
        self.coming = Some((begin.ns(), side, begin.entity_count));
    }

    fn chunk(&mut self, chunk: SnapshotChunk) {
        let (_, side, _) = self.coming.as_mut().expect("a snapshot has begun");
        assert!(chunk.data.len() <= 1 << 20, "{} bytes", chunk.data.len());
        assert_eq!(crc32fast::hash(&chunk.data), chunk.crc32);
        let set = EntitySet::decode(chunk.data).expect("entities");
        set.entities.into_iter().for_each(|entity| side.insert(entity));
        self.chunks += 1;
    }

    fn end_of_snapshot(&mut self, end: &SnapshotEnd) -> Step {
        let (ns, side, count) = self.coming.take().expect("a snapshot has begun");
        assert_eq!(side.entities.len() as u64, count);
        assert_eq!(side.digest().to_bytes()[..], end.digest[..], "the digest fits");
        Step::Snapshot(ns, side)
    }

    async fn message(&mut self) -> Result<Option<ControlMessage>, Status> {
        let message = tokio::time::timeout(PATIENCE, self.wire.inbound.message()).await;
        message.expect("something comes")
    }
}
