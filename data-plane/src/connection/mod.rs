//! One client connection, until its end or until its worker ends it.
//!
//! ```text
//! accepted -> first bytes -> HTTP/1.1 | HTTP/2 -> end
//! ```
//!
//! HTTP/1.1 is our own, so that a request costs little and a connection between two requests next
//! to nothing; HTTP/2 is hyper's.

mod http1;
mod http2;

use std::{future::poll_fn, net::IpAddr, rc::Rc, task::Poll};

use tokio::net::TcpStream;

use self::http1::Http1;
pub(crate) use self::http2::Http2;
use crate::{
    forwarding::Peer,
    gateway::Gateway,
    shared::Shared,
    socket::Socket,
    watch::{Order, Watch},
};

/// What HTTP/2 begins with and no HTTP/1.1 request does (RFC 9113 section 3.4).
const PREFACE: &[u8; 4] = b"PRI ";

/// Serves one connection to its end.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    http2: Rc<Http2>,
    worker: Rc<Shared>,
    watch: Rc<Watch>,
) {
    let socket = Socket::new(stream, watch.clone());
    let mut begun = Vec::new();
    if !has_begun(&socket, &worker, &watch, &mut begun).await {
        return;
    }
    let gateway = Gateway { worker, peer: Rc::new(Peer::new(peer)) };
    if begun.starts_with(PREFACE) {
        Box::pin(http2.serve(socket.into_io(begun), gateway, watch)).await;
    } else {
        Http1::new(socket, gateway, watch).serve(begun).await;
    }
}

/// Reads enough to tell the protocol by; false: the connection ends before that.
async fn has_begun(socket: &Socket, worker: &Shared, watch: &Watch, begun: &mut Vec<u8>) -> bool {
    poll_fn(|cx| {
        loop {
            if let Order::Finish | Order::Abort = watch.poll_order(cx) {
                return Poll::Ready(false);
            }
            if !begun.is_empty() && (begun.starts_with(PREFACE) || !PREFACE.starts_with(begun)) {
                return Poll::Ready(true);
            }
            if begun.capacity() == 0 {
                *begun = worker.buffers.take();
            }
            match socket.poll_read(cx, begun) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                Poll::Pending => {
                    if begun.is_empty() {
                        worker.buffers.give_back(begun);
                    }
                    return Poll::Pending;
                }
            }
        }
    })
    .await
}
