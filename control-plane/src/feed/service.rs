//! The gRPC service nodes open their stream with.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use fastgate::{
    model::{Id, Labels, Member},
    node::v1::{
        NodeMessage,
        config_stream_server::{ConfigStream, ConfigStreamServer},
        node_message::Body,
    },
};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Feed,
    cursor::Cursor,
    outbox::{Messages, Outbox, outbox},
    session::Session,
};
use crate::{
    domain::Namespace,
    identity::Peer,
    nodes::{Greeting, check_names},
    streams::{Endless, HangUp},
};

/// How long a node may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);

/// How old what is known may be to say that there is nothing else.
const FRESH: Duration = Duration::from_secs(5);

/// How long a node may take to read the end of its stream. After that its connection is closed, or
/// what it does not read would stay in memory for as long as it likes.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// Answers `fastgate.node.v1.ConfigStream`.
pub(crate) struct ConfigStreamService(Feed);

impl Feed {
    /// The service nodes follow.
    pub(crate) fn service(&self) -> ConfigStreamServer<ConfigStreamService> {
        ConfigStreamServer::new(ConfigStreamService(self.clone()))
    }

    /// Waits for the first message and finds what the node asks for.
    async fn greet(
        self,
        peer: &Peer,
        inbound: &mut Streaming<NodeMessage>,
        outbox: Outbox,
    ) -> Result<Session, Status> {
        let first = tokio::time::timeout(HELLO, inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let Some(NodeMessage { body: Some(Body::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message must be a hello"));
        };
        let environment = check_names(
            &hello.environment,
            &[
                ("node_id", &hello.node_id),
                ("boot_id", &hello.boot_id),
                ("version", &hello.version),
            ],
        )?;
        let labels = Labels::parse(hello.labels.iter().map(String::as_str));
        let labels =
            labels.map_err(|fault| Status::invalid_argument(format!("labels: {fault}")))?;
        let member = Arc::new(Member::new(&hello.node_id, labels.clone()));
        peer.check(&environment, Some(&hello.node_id))?;
        let came = Instant::now();
        self.wait_until_ready().await?;
        let cursor = |ns| {
            let (shared, member) = (Arc::clone(&self.shared), Arc::clone(&member));
            let cursor = Cursor::new(shared, environment.clone(), ns, &hello, member);
            cursor.ok_or_else(|| self.unknown(&environment, came))
        };
        let (keys, config) = (cursor(Namespace::Keys)?, cursor(Namespace::Config)?);
        let lease = self.shared.nodes.connect(Greeting {
            environment: environment.clone(),
            node_id: hello.node_id,
            boot_id: hello.boot_id,
            version: hello.version,
            started_at: started_at(hello.uptime_ms),
            keys: keys.held(),
            config: config.held(),
            answers_questions: hello.answers_questions,
            labels,
            refused: hello.refused.into_iter().filter_map(|refusal| refusal.nack).collect(),
            certificate_ends: peer.certificate_ends(),
        });
        let (lease, questions) =
            lease.ok_or_else(|| Status::resource_exhausted("too many nodes"))?;
        let Self { shared, stop } = self;
        // A new node must know at once how many share the limits.
        let heartbeat_due = true;
        Ok(Session {
            shared,
            environment,
            outbox,
            lease,
            questions,
            question: None,
            keys,
            config,
            heartbeat_due,
            stop,
        })
    }

    /// What a node is told of whose environment nothing is known.
    fn unknown(&self, environment: &Id, came: Instant) -> Status {
        // One that was read then would be known.
        let is_sure = came.checked_sub(FRESH).is_some_and(|then| self.shared.has_read_since(then));
        if is_sure {
            return Status::not_found(format!("environment '{environment}' does not exist"));
        }
        Status::unavailable("the database could not be read yet")
    }

    async fn wait_until_ready(&self) -> Result<(), Status> {
        let mut ready = self.shared.ready.subscribe();
        let waited = tokio::time::timeout(HELLO, ready.wait_for(|ready| *ready)).await;
        if matches!(waited, Ok(Ok(_))) {
            return Ok(());
        }
        Err(Status::unavailable("the database could not be read yet"))
    }
}

#[async_trait]
impl ConfigStream for ConfigStreamService {
    type SyncStream = Messages;

    async fn sync(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Messages>, Status> {
        let hang_up = request.extensions().get::<HangUp>().cloned().unwrap_or_default();
        let peer = Peer::of(request.extensions());
        let inbound = request.into_inner();
        let (outbox, messages, gone) = outbox();
        // The head of the answer must go out before the node says anything, so the rest is a task
        // of its own. It ends with the stream, in either direction, or with the control plane.
        let served = serve(self.0.clone(), peer, inbound, outbox.clone());
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = served => ended,
                () = gone.cancelled() => return,
            };
            let farewell = async {
                if let Err(status) = ended {
                    let (code, why) = (status.code(), status.message());
                    tracing::info!(?code, "a node's stream ended: {why}");
                    outbox.refuse(status).await;
                } else {
                    drop(outbox);
                }
                gone.cancelled().await;
            };
            if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
                hang_up.0.cancel();
            }
        });
        let mut response = Response::new(messages);
        response.extensions_mut().insert(Endless);
        Ok(response)
    }
}

/// When a process started that has run for so long.
fn started_at(uptime_ms: u64) -> SystemTime {
    let now = SystemTime::now();
    let started = now.checked_sub(Duration::from_millis(uptime_ms));
    started.filter(|at| *at >= SystemTime::UNIX_EPOCH).unwrap_or(now)
}

/// Serves a node from its Hello to the end of its stream.
async fn serve(
    feed: Feed,
    peer: Peer,
    mut inbound: Streaming<NodeMessage>,
    outbox: Outbox,
) -> Result<(), Status> {
    let stop = feed.stop.clone();
    let session = tokio::select! {
        session = feed.greet(&peer, &mut inbound, outbox.clone()) => session?,
        () = stop.cancelled() => return outbox.drain().await,
    };
    session.run(inbound).await
}
