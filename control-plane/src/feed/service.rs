//! The gRPC service nodes open their stream with.

use std::time::Duration;

use fastgate::node::v1::{
    ControlMessage, Drain, NodeMessage,
    config_stream_server::{ConfigStream, ConfigStreamServer},
    control_message,
    node_message::Body,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Feed,
    outbox::Outbox,
    session::{Cursor, Session},
};
use crate::{
    domain::Namespace,
    nodes::{Greeting, check_names},
    streams::Endless,
};

/// How long a node may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);

/// Messages on their way to one node: enough to keep the wire busy, little to hold in memory.
const OUTBOUND: usize = 4;

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
        self.wait_until_ready().await?;
        let cursor = |ns| {
            Cursor::new(&self.shared, &environment, ns, &hello.held).ok_or_else(|| {
                Status::not_found(format!("environment '{environment}' does not exist"))
            })
        };
        let (keys, config) = (cursor(Namespace::Keys)?, cursor(Namespace::Config)?);
        let lease = self.shared.nodes.connect(Greeting {
            environment: environment.clone(),
            node_id: hello.node_id,
            boot_id: hello.boot_id,
            version: hello.version,
            keys_revision: keys.held_revision(),
            config_revision: config.held_revision(),
        });
        let lease = lease.ok_or_else(|| Status::resource_exhausted("too many nodes"))?;
        let Self { shared, stop } = self;
        Ok(Session { shared, environment, outbox, lease, keys, config, stop })
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
    type SyncStream = ReceiverStream<Result<ControlMessage, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let mut inbound = request.into_inner();
        let (outbound, messages) = mpsc::channel(OUTBOUND);
        let feed = self.0.clone();
        let stop = feed.stop.clone();
        // The head of the answer must go out before the node says anything, so the rest is a task
        // of its own. It ends with the stream, in either direction, or with the control plane.
        tokio::spawn(async move {
            let closed = outbound.clone();
            let serve = async {
                let outbox = Outbox(outbound.clone());
                let session = tokio::select! {
                    session = feed.greet(&mut inbound, outbox.clone()) => session?,
                    () = stop.cancelled() => return outbox.send(control_message::Body::Drain(Drain {})).await,
                };
                session.run(inbound).await
            };
            let ended = tokio::select! {
                ended = serve => ended,
                () = closed.closed() => return,
            };
            if let Err(status) = ended {
                tracing::info!(code = ?status.code(), "a node's stream ended: {}", status.message());
                // A node that does not read gets no reason; the end of the channel is one.
                drop(outbound.try_send(Err(status)));
            }
        });
        let mut response = Response::new(ReceiverStream::new(messages));
        response.extensions_mut().insert(Endless);
        Ok(response)
    }
}
