//! The way out to one node, one message at a time.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use fastgate::node::v1::{ControlMessage, Drain, control_message::Body};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

/// Messages that wait for the connection to take them. One keeps the wire busy: while it is on its
/// way the next is made.
const WAITING: usize = 1;

type Message = Result<ControlMessage, Status>;

/// The sending end of a node's stream.
#[derive(Clone)]
pub(super) struct Outbox(mpsc::Sender<Message>);

/// The place for one message. What is sent is made when there is one, so nothing that a slow node
/// can't take yet is in memory, and nothing is older than need be.
pub(super) struct Room<'a>(mpsc::Permit<'a, Message>);

/// The receiving end: the messages of the answer to a node.
pub(crate) struct Messages {
    messages: ReceiverStream<Message>,
    _gone: DropGuard,
}

/// An outbox, its messages, and what is cancelled when nobody will take any more of them.
pub(super) fn outbox() -> (Outbox, Messages, CancellationToken) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let gone = CancellationToken::new();
    let _gone = gone.clone().drop_guard();
    (Outbox(sender), Messages { messages: ReceiverStream::new(receiver), _gone }, gone)
}

impl Outbox {
    /// Waits until one more message can be on its way.
    pub(super) async fn room(&self) -> Result<Room<'_>, Status> {
        let permit = self.0.reserve().await;
        permit.map(Room).map_err(|_| Status::cancelled("the node closed the stream"))
    }

    /// Tells the node to go elsewhere, as soon as it takes that.
    pub(super) async fn drain(&self) -> Result<(), Status> {
        self.room().await?.send(Body::Drain(Drain {}));
        Ok(())
    }

    /// Ends the stream with a reason, as soon as the node takes it.
    pub(super) async fn refuse(self, status: Status) {
        // A node that left needs no reason.
        drop(self.0.send(Err(status)).await);
    }
}

impl Room<'_> {
    pub(super) fn send(self, body: Body) {
        self.0.send(Ok(ControlMessage { body: Some(body) }));
    }
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        Pin::new(&mut self.messages).poll_next(cx)
    }
}
