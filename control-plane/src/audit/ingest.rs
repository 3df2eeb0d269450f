//! The gRPC service nodes push their events to.

use std::sync::Arc;

use fastgate::node::v1::{
    Batch, BatchAck,
    audit_ingest_server::{AuditIngest, AuditIngestServer},
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::arrivals::{Arrivals, for_good};
use crate::{
    domain::EventBatch,
    identity::Peer,
    metrics::IngestCounts,
    store::{Store, StoreError},
    streams::Endless,
};

/// The largest batch taken in: nodes end theirs with the event that passes 1 MiB.
const BATCH: usize = 16 << 20;

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
        peer: Peer,
        inbound: Streaming<Batch>,
        outbound: &mpsc::Sender<Result<BatchAck, Status>>,
    ) -> Result<(), Status> {
        let mut arrivals = Arrivals::of(peer, inbound);
        while let Some(arrival) = arrivals.next().await? {
            let acks = arrival.acks();
            let ingest = self.clone();
            let repeated = to_its_end(async move {
                let is_new = ingest.take(arrival.joined()).await?;
                Ok(if is_new { Vec::new() } else { arrival.split() })
            });
            let repeated = repeated.await?;
            if repeated.is_empty() {
                for ack in acks {
                    acknowledge(outbound, ack).await?;
                }
                continue;
            }
            // The first of them at least was stored before. Each is acknowledged when it is done: all
            // of them may take longer than a node waits, and it would send them again for ever.
            let is_one = repeated.len() == 1;
            for (batch, ack) in repeated.into_iter().zip(acks) {
                let ingest = self.clone();
                if is_one || !to_its_end(async move { ingest.append(&batch).await }).await? {
                    self.counts.repeated.inc();
                }
                acknowledge(outbound, ack).await?;
            }
        }
        Ok(())
    }

    /// Stores what is new of a batch whose environment exists. False: it was stored before, or begins
    /// with what was.
    async fn take(&self, batch: &EventBatch) -> Result<bool, Status> {
        // Never closed.
        let turn = self.turns.acquire().await;
        let environment = self.store.environment(batch.environment.as_str()).await;
        if environment.map_err(|fault| refusal(batch, &fault))?.is_none() {
            let fault = format!("environment '{}' does not exist", batch.environment);
            return Err(for_good(Status::not_found(fault), batch.first_seq));
        }
        drop(turn);
        self.append(batch).await
    }

    /// The same where it is known to exist.
    async fn append(&self, batch: &EventBatch) -> Result<bool, Status> {
        // Never closed.
        let _turn = self.turns.acquire().await;
        let appended = self.store.append_events(batch).await;
        let appended = appended.map_err(|fault| refusal(batch, &fault))?;
        self.counts.stored.inc_by(appended.events);
        self.counts.lost.inc_by(appended.lost);
        Ok(appended.events > 0 || batch.is_empty())
    }
}

#[async_trait]
impl AuditIngest for Ingest {
    type PushStream = ReceiverStream<Result<BatchAck, Status>>;

    async fn push(
        &self,
        request: Request<Streaming<Batch>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let peer = Peer::of(request.extensions());
        let inbound = request.into_inner();
        let (outbound, acks) = mpsc::channel(OUTBOUND);
        let ingest = self.clone();
        // A task of its own, for the head of the answer must go out before the first batch comes.
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = ingest.serve(peer, inbound, &outbound) => ended,
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

/// Goes on to the end when the node is gone: half a COPY left behind makes a connection useless, and the
/// pool would lend it to others.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    let ended = tokio::spawn(work).await;
    ended.map_err(|_| Status::internal("the events could not be stored"))?
}

async fn acknowledge(
    outbound: &mpsc::Sender<Result<BatchAck, Status>>,
    ack: BatchAck,
) -> Result<(), Status> {
    let sent = outbound.send(Ok(ack)).await;
    sent.map_err(|_| Status::cancelled("the node closed the stream"))
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
