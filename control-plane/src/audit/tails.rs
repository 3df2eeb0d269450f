//! The tails that are open here, and the events that connected nodes send for them.
//!
//! ```text
//! TailLogs --open--> Tails --which are open--> nodes of the environment
//!     ^----events, what was passed over-----------'
//! ```
//!
//! Nothing here waits for who watches: what finds no room on its way is passed over and counted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::SystemTime,
};

use fastgate::{
    admin::v1::{LogEvent, TailLogsRequest},
    audit::TAILS,
    model::Id,
    node::v1::{
        self, OpenTails, TailReport, TailedEvent, TailingNode,
        audit_tail_server::{AuditTail, AuditTailServer},
    },
};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};
use uuid::Uuid;

use crate::{identity::Peer, nodes::check_names, streams::Endless};

/// Events on their way to one tail.
const QUEUE: usize = 1000;

/// Bytes of those, for what they carry of bodies can be much.
const QUEUE_BYTES: usize = 4 << 20;

/// The largest report taken in: those of nodes are far smaller.
const REPORT: usize = 16 << 20;

/// All tails of this control plane.
#[derive(Clone, Default)]
pub(crate) struct Tails(Arc<Inner>);

#[derive(Default)]
struct Inner {
    open: Mutex<BTreeMap<u64, Watched>>,
    /// Told when one is opened or ends.
    changed: watch::Sender<()>,
}

/// A tail, as nodes serve it.
struct Watched {
    environment: Id,
    filter: TailLogsRequest,
    events: mpsc::Sender<LogEvent>,
    queue: Arc<Queue>,
    live: HashMap<String, Live>,
}

/// What is on its way to one tail.
#[derive(Default)]
struct Queue {
    bytes: AtomicUsize,
    passed_over: AtomicU64,
}

/// A node that sends what a tail shows.
struct Live {
    /// Over which of its streams.
    stream: Uuid,
    /// It sends all that began from then on, by its own clock.
    since: SystemTime,
}

/// A tail for as long as it is open.
pub(crate) struct OpenTail {
    id: u64,
    tails: Tails,
    events: mpsc::Receiver<LogEvent>,
    queue: Arc<Queue>,
}

impl Tails {
    /// Opens a tail, whose filter was checked. `None`: there are too many.
    pub(crate) fn open(&self, environment: Id, filter: TailLogsRequest) -> Option<OpenTail> {
        // New at every start, so that nothing meant for another control plane's is taken for it.
        let (_, id) = Uuid::now_v7().as_u64_pair();
        let (sender, events) = mpsc::channel(QUEUE);
        let queue = Arc::<Queue>::default();
        let mut open = self.watched();
        if open.len() >= TAILS {
            return None;
        }
        let (live, watched) = (HashMap::new(), queue.clone());
        open.insert(id, Watched { environment, filter, events: sender, queue: watched, live });
        drop(open);
        self.0.changed.send_replace(());
        Some(OpenTail { id, tails: self.clone(), events, queue })
    }

    /// The service nodes open their stream with; it ends with `stop`.
    pub(crate) fn service(&self, stop: CancellationToken) -> AuditTailServer<TailService> {
        let service = TailService { tails: self.clone(), stop };
        AuditTailServer::new(service).max_decoding_message_size(REPORT)
    }

    fn list(&self, environment: &Id) -> OpenTails {
        let open = self.watched();
        let of_it = open.iter().filter(|(_, tail)| tail.environment == *environment);
        let tails = of_it
            .map(|(id, tail)| v1::OpenTail { tail_id: *id, filter: Some(tail.filter.clone()) });
        OpenTails { tails: tails.collect() }
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<u64, Watched>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Sends an event on, or counts it where there is no room.
    fn show(&self, event: LogEvent) {
        let bytes = event.encoded_len();
        // Others send under the same lock: what is there only becomes less meanwhile.
        let has_room = self.queue.bytes.load(Relaxed) + bytes <= QUEUE_BYTES;
        // Before it is sent, for it may be taken off at once.
        self.queue.bytes.fetch_add(bytes, Relaxed);
        if !has_room || self.events.try_send(event).is_err() {
            self.queue.bytes.fetch_sub(bytes, Relaxed);
            self.queue.passed_over.fetch_add(1, Relaxed);
        }
    }
}

impl OpenTail {
    /// The next event a node sends. Nothing is lost when the wait is given up.
    pub(crate) async fn next(&mut self) -> LogEvent {
        match self.events.recv().await {
            Some(event) => {
                self.queue.bytes.fetch_sub(event.encoded_len(), Relaxed);
                event
            }
            // Its other end is dropped after this one.
            None => std::future::pending().await,
        }
    }

    /// Counts events that are not shown.
    pub(crate) fn pass_over(&self, events: u64) {
        self.queue.passed_over.fetch_add(events, Relaxed);
    }

    /// Events that should have been shown since this was last asked, and were too many.
    pub(crate) fn passed_over(&self) -> u64 {
        self.queue.passed_over.swap(0, Relaxed)
    }

    /// Whether a node sends what began then by itself.
    pub(crate) fn has_from_node(&self, node_id: &str, began: SystemTime) -> bool {
        let open = self.tails.watched();
        let live = open.get(&self.id).and_then(|tail| tail.live.get(node_id));
        live.is_some_and(|live| began >= live.since)
    }
}

impl Drop for OpenTail {
    fn drop(&mut self) {
        self.tails.watched().remove(&self.id);
        self.tails.0.changed.send_replace(());
    }
}

/// Answers `fastgate.node.v1.AuditTail`.
pub(crate) struct TailService {
    tails: Tails,
    stop: CancellationToken,
}

/// A node's stream. Dropped, the node sends nothing any more.
struct Source {
    tails: Tails,
    environment: Id,
    node_id: String,
    stream: Uuid,
}

#[async_trait]
impl AuditTail for TailService {
    type FollowStream = ReceiverStream<Result<OpenTails, Status>>;

    async fn follow(
        &self,
        request: Request<Streaming<TailReport>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let peer = Peer::of(request.extensions());
        let inbound = request.into_inner();
        let (outbound, open) = mpsc::channel(1);
        let (tails, stop) = (self.tails.clone(), self.stop.clone());
        // A task of its own, for the head of the answer must go out before the node says anything.
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = serve(tails, &peer, inbound, &outbound) => ended,
                () = stop.cancelled() => Err(Status::unavailable("the control plane stops")),
                () = outbound.closed() => return,
            };
            if let Err(status) = ended {
                drop(outbound.try_send(Err(status)));
            }
        });
        let mut response = Response::new(ReceiverStream::new(open));
        response.extensions_mut().insert(Endless);
        Ok(response)
    }
}

async fn serve(
    tails: Tails,
    peer: &Peer,
    mut inbound: Streaming<TailReport>,
    outbound: &mpsc::Sender<Result<OpenTails, Status>>,
) -> Result<(), Status> {
    let first = inbound.message().await?;
    let Some(TailReport { node: Some(node), .. }) = first else {
        return Err(Status::invalid_argument("node: must be in the first report"));
    };
    let mut changed = tails.0.changed.subscribe();
    let source = Source::of(tails, peer, node)?;
    let mut told = OpenTails::default();
    changed.mark_changed();
    loop {
        tokio::select! {
            _ = changed.changed() => {
                let open = source.tails.list(&source.environment);
                if open != told {
                    told.clone_from(&open);
                    let sent = outbound.send(Ok(open)).await;
                    sent.map_err(|_| Status::cancelled("the node closed the stream"))?;
                }
            }
            report = inbound.message() => {
                let Some(report) = report? else { return Ok(()) };
                source.take(report);
            }
        }
    }
}

impl Source {
    fn of(tails: Tails, peer: &Peer, node: TailingNode) -> Result<Self, Status> {
        let environment = check_names(&node.environment, &[("node.node_id", &node.node_id)])?;
        peer.check(&environment, Some(&node.node_id))?;
        Ok(Self { tails, environment, node_id: node.node_id, stream: Uuid::now_v7() })
    }

    /// Hands a report to the tails it is for; of those that ended meanwhile nothing is left to tell.
    fn take(&self, report: TailReport) {
        let mut open = self.tails.watched();
        for progress in report.tails {
            let Some(tail) = self.find(&mut open, progress.tail_id) else { continue };
            tail.queue.passed_over.fetch_add(progress.passed_over, Relaxed);
            let since = progress.since.and_then(|since| SystemTime::try_from(since).ok());
            if let Some(since) = since {
                let live = Live { stream: self.stream, since };
                tail.live.insert(self.node_id.clone(), live);
            }
        }
        for TailedEvent { event, tail_ids } in report.events {
            let Some(event) = event else { continue };
            // A node speaks for itself alone.
            let event = LogEvent {
                node_id: self.node_id.clone(),
                environment: self.environment.to_string(),
                ..event
            };
            for id in tail_ids {
                if let Some(tail) = self.find(&mut open, id) {
                    tail.show(event.clone());
                }
            }
        }
    }

    fn find<'a>(&self, open: &'a mut BTreeMap<u64, Watched>, id: u64) -> Option<&'a mut Watched> {
        open.get_mut(&id).filter(|tail| tail.environment == self.environment)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        for tail in self.tails.watched().values_mut() {
            // The entry of a node that is back already is that of its newer stream.
            if tail.live.get(&self.node_id).is_some_and(|live| live.stream == self.stream) {
                tail.live.remove(&self.node_id);
            }
        }
    }
}
