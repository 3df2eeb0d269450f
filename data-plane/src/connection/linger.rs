//! How a connection ends that the gateway closes: it listens on for a while. Closing at once, while
//! the client is still sending, would reset it, and the client would lose the answer (RFC 9112
//! section 9.6).

use std::{future::poll_fn, task::Poll};

use crate::{
    buffers::Buffers,
    socket::Socket,
    watch::{Order, Watch},
};

/// Throws away what still comes, until the client closes or has had its time.
pub(super) async fn linger(socket: &Socket, watch: &Watch, buffers: &Buffers) {
    watch.lingers();
    let mut scratch = buffers.take();
    poll_fn(|cx| {
        let shut = socket.poll_shutdown(cx);
        if watch.poll_order(cx) == Order::Abort || matches!(shut, Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        loop {
            scratch.clear();
            match socket.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    buffers.give_back(&mut scratch);
}
