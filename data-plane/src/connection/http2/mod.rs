//! HTTP/2 with a client: many requests at once over one connection (RFC 9113).
//!
//! ```text
//!           +-> header block -> stream -> exchange --+
//! frames in |                   ^  |                 +-> frames out, in one write
//!           +-> DATA -----------+  +-> windows ------+
//! ```
//!
//! A connection is one task. It takes in what was read, lets every stream go on that can, and
//! writes what they have to say together. Streams share nothing with other connections.

mod answer;
mod frame;
mod head;
mod outgoing;
mod receiver;
mod stream;
mod streams;

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use futures_util::stream::{FuturesUnordered, Stream as _};

use self::{
    answer::Session,
    receiver::{Begun, Received, Receiver},
    stream::Stream,
};
use super::linger::linger;
use crate::{
    gateway::Gateway,
    socket::Socket,
    watch::{Order, Watch},
};

/// Reads after which other connections get their turn.
const TURNS: u32 = 4;

/// A connection that speaks it.
pub(super) struct Http2 {
    socket: Socket,
    session: Rc<Session>,
    watch: Rc<Watch>,
}

/// How a connection ends.
enum End {
    /// As it should: the client was told, and may still be sending.
    Told,
    /// There is nobody left to be told.
    Gone,
}

impl Http2 {
    pub(super) fn new(socket: Socket, gateway: Gateway, watch: Rc<Watch>) -> Self {
        Self { socket, session: Rc::new(Session::new(gateway, watch.clone())), watch }
    }

    /// Serves it to its end. It began with `begun`.
    pub(super) async fn serve(self, begun: Vec<u8>) {
        let begin = |begun| self.session.clone().serve(begun);
        let end = {
            let receiver = Receiver::new(self.session.clone(), begun);
            let mut driver = Driver { http2: &self, receiver, exchanges: FuturesUnordered::new() };
            let driven = poll_fn(|cx| driver.poll(cx, &begin));
            // Its streams take turns as it is: the runtime would count what they all do as one.
            tokio::task::unconstrained(driven).await
        };
        if let End::Told = end {
            linger(&self.socket, &self.watch, &self.session.worker().buffers).await;
        }
    }
}

/// Moves everything on that can be.
struct Driver<'a, F> {
    http2: &'a Http2,
    receiver: Receiver,
    exchanges: FuturesUnordered<F>,
}

impl<F: Future<Output = Rc<Stream>>> Driver<'_, F> {
    fn poll(&mut self, cx: &mut Context<'_>, begin: &impl Fn(Begun) -> F) -> Poll<End> {
        let Http2 { socket, session, watch } = self.http2;
        match watch.poll_order(cx) {
            Order::GoOn => {}
            Order::Abort => return Poll::Ready(End::Gone),
            Order::Finish => self.receiver.warn(),
            Order::RefuseHead => self.receiver.close(),
        }
        for _ in 0..TURNS {
            let received = self.receiver.poll(cx, socket);
            if received == Received::Gone {
                return Poll::Ready(End::Gone);
            }
            self.exchanges.extend(self.receiver.begun.drain(..).map(begin));
            while let Poll::Ready(Some(stream)) = Pin::new(&mut self.exchanges).poll_next(cx) {
                self.receiver.ended(&stream);
            }
            self.receiver.renew();
            let sent = session.outgoing.borrow_mut().poll_send(cx, socket);
            let has_more = self.receiver.refuse_unwanted(cx);
            match sent {
                Poll::Ready(Err(_)) => return Poll::Ready(End::Gone),
                Poll::Ready(Ok(())) if self.receiver.is_flooded() => return Poll::Ready(End::Gone),
                Poll::Ready(Ok(())) if self.is_over() && !has_more => {
                    return Poll::Ready(End::Told);
                }
                Poll::Ready(Ok(())) => self.receiver.has_room(),
                Poll::Pending => {}
            }
            let is_waiting = match received {
                Received::Something => false,
                Received::Full => sent.is_pending(),
                Received::Nothing | Received::Gone => sent.is_pending() || !has_more,
            };
            if is_waiting {
                self.note();
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_over(&self) -> bool {
        self.receiver.has_failed() || self.receiver.is_closed() && self.exchanges.is_empty()
    }

    /// Notes what the client is waited for to do.
    fn note(&self) {
        if self.exchanges.is_empty() {
            match self.receiver.is_within_frame() {
                true => self.http2.watch.began_head(),
                false => self.http2.watch.ended_head(),
            }
        }
    }
}
