//! The gRPC service nodes push their events to.

use std::sync::Arc;

use fastgate::node::v1::{
    Batch, BatchAck, Gap,
    audit_ingest_server::{AuditIngest, AuditIngestServer},
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::{
    domain::{EventBatch, EventGap},
    metrics::IngestCounts,
    nodes::check_names,
    store::{Store, StoreError},
    streams::Endless,
};

/// Events of one batch.
const EVENTS: usize = 4096;

/// Gaps of one batch.
const GAPS: usize = 256;

/// Bytes of the reason of a gap.
const MAX_REASON: usize = 32;

/// The largest batch taken in: events of that many with every field at its longest stay below it.
const BATCH: usize = 64 << 20;

/// Batches stored at the same time. Further ones wait here and not for a connection of the database:
/// those are for everyone.
const AT_ONCE: usize = 8;

/// Acknowledgements on their way to one node.
const OUTBOUND: usize = 16;

/// Stores what nodes push.
#[derive(Clone)]
pub(crate) struct Ingest {
    store: Arc<dyn Store>,
    counts: IngestCounts,
    turns: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Ingest {
    /// Stores into `store`; streams end with `stop`.
    pub(crate) fn new(store: Arc<dyn Store>, stop: CancellationToken) -> Self {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Self { store, counts: IngestCounts::default(), turns, stop }
    }

    /// The service nodes push to.
    pub(crate) fn service(&self) -> AuditIngestServer<Self> {
        AuditIngestServer::new(self.clone()).max_decoding_message_size(BATCH)
    }

    /// What it stored so far.
    pub(crate) fn counts(&self) -> &IngestCounts {
        &self.counts
    }

    /// Stores batch after batch and acknowledges each; the order of both is the node's.
    async fn serve(
        &self,
        mut inbound: Streaming<Batch>,
        outbound: &mpsc::Sender<Result<BatchAck, Status>>,
    ) -> Result<(), Status> {
        while let Some(batch) = inbound.message().await? {
            // On its own, so that it goes on to its end when the node is gone: half a COPY left behind
            // makes a connection useless, and the pool would lend it to others.
            let ingest = self.clone();
            let taken = tokio::spawn(async move { ingest.take(batch).await }).await;
            let ack = taken.map_err(|_| Status::internal("the events could not be stored"))??;
            let sent = outbound.send(Ok(ack)).await;
            sent.map_err(|_| Status::cancelled("the node closed the stream"))?;
        }
        Ok(())
    }

    async fn take(&self, batch: Batch) -> Result<BatchAck, Status> {
        let batch = check(batch)?;
        let ack = BatchAck { first_seq: batch.first_seq };
        // Never closed.
        let _turn = self.turns.acquire().await;
        let environment = self.store.environment(batch.environment.as_str()).await;
        if environment.map_err(|fault| refusal(&batch, &fault))?.is_none() {
            let fault = format!("environment '{}' does not exist", batch.environment);
            return Err(Status::not_found(fault));
        }
        let appended = self.store.append_events(&batch).await;
        let appended = appended.map_err(|fault| refusal(&batch, &fault))?;
        self.counts.stored.inc_by(appended.events);
        self.counts.lost.inc_by(appended.lost);
        if appended.events == 0 && !batch.events.is_empty() {
            self.counts.repeated.inc();
        }
        Ok(ack)
    }
}

#[async_trait]
impl AuditIngest for Ingest {
    type PushStream = ReceiverStream<Result<BatchAck, Status>>;

    async fn push(
        &self,
        request: Request<Streaming<Batch>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let inbound = request.into_inner();
        let (outbound, acks) = mpsc::channel(OUTBOUND);
        let ingest = self.clone();
        // A task of its own, for the head of the answer must go out before the first batch comes.
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = ingest.serve(inbound, &outbound) => ended,
                () = ingest.stop.cancelled() => Err(Status::unavailable("the control plane stops")),
                () = outbound.closed() => return,
            };
            if let Err(status) = ended {
                drop(outbound.try_send(Err(status)));
            }
        });
        let mut response = Response::new(ReceiverStream::new(acks));
        response.extensions_mut().insert(Endless);
        Ok(response)
    }
}

/// Why a sound batch was not stored.
fn refusal(batch: &EventBatch, fault: &StoreError) -> Status {
    tracing::error!(node = batch.node_id, error = %fault, "can't store audit events");
    match fault {
        StoreError::Internal(_) => Status::internal("the events could not be stored"),
        // The node keeps the batch and comes again.
        _ => Status::unavailable("the database is not available"),
    }
}

fn check(batch: Batch) -> Result<EventBatch, Status> {
    let environment = check_names(
        &batch.environment,
        &[("node_id", &batch.node_id), ("boot_id", &batch.boot_id)],
    )?;
    if batch.events.len() > EVENTS || (batch.events.is_empty() && batch.gaps.is_empty()) {
        let fault = format!("events: must be 1 to {EVENTS}, or none where there are gaps");
        return Err(Status::invalid_argument(fault));
    }
    // The database keeps numbers with a sign.
    let after = batch.first_seq.checked_add(batch.events.len() as u64);
    if after.is_none_or(|after| after > i64::MAX as u64) {
        return Err(Status::invalid_argument("first_seq: is beyond what a node can have counted"));
    }
    if batch.gaps.len() > GAPS {
        return Err(Status::invalid_argument(format!("gaps: must be at most {GAPS}")));
    }
    let gaps = batch.gaps.into_iter().map(|gap| check_gap(gap, batch.first_seq));
    let gaps = gaps.collect::<Result<_, _>>()?;
    Ok(EventBatch {
        node_id: batch.node_id,
        boot_id: batch.boot_id,
        environment,
        first_seq: batch.first_seq,
        events: batch.events,
        gaps,
    })
}

fn check_gap(gap: Gap, before: u64) -> Result<EventGap, Status> {
    let fault =
        |field: &str, fault: &str| Status::invalid_argument(format!("gaps.{field}: {fault}"));
    let after = gap.first_seq.checked_add(gap.events);
    if gap.events == 0 || after.is_none_or(|after| after > before) {
        return Err(fault("events", "must be some, all of them before first_seq"));
    }
    let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
    if gap.reason.is_empty() || gap.reason.len() > MAX_REASON || !gap.reason.chars().all(is_word) {
        return Err(fault("reason", "must be a word such as 'dropped'"));
    }
    Ok(EventGap { first_seq: gap.first_seq, events: gap.events, reason: gap.reason })
}
