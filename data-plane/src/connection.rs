//! One client connection: hyper on a socket, until its end or until its worker ends it.
//!
//! ```text
//! accepted -> first bytes -> HTTP/2 -> end
//!                         -> HTTP/1 <-> parked -> end
//! ```
//!
//! A connection that is idle for a while is parked: hyper and its buffers are taken off the socket,
//! and put on again when something comes.

use std::{
    convert::Infallible, future::poll_fn, net::IpAddr, pin::Pin, pin::pin, rc::Rc, task::Poll,
    time::Duration,
};

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulConnection};
use tokio::net::TcpStream;

use crate::{
    executor::LocalExecutor,
    gateway::Gateway,
    shared::Shared,
    socket::Socket,
    watch::{Order, Watch},
};

/// Larger request heads are refused with 431. It also bounds what is read ahead of a body.
const MAX_HEAD: usize = 64 * 1024;
/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// What HTTP/2 begins with and no HTTP/1.1 request does (RFC 9113 section 3.4).
const PREFACE: &[u8; 4] = b"PRI ";
/// How long to wait for the rest of what may become a preface.
const NEXT_LOOK: Duration = Duration::from_millis(1);

/// How both protocols are spoken.
pub(crate) struct Http {
    http1: http1::Builder,
    http2: http2::Builder<LocalExecutor>,
}

impl Http {
    /// The streams of HTTP/2 connections run on this executor.
    pub(crate) fn new(executor: LocalExecutor) -> Self {
        let mut http1 = http1::Builder::new();
        // Timeouts are the patrol's, see `watch`.
        http1.header_read_timeout(None).max_buf_size(MAX_HEAD);
        let mut http2 = http2::Builder::new(executor);
        http2
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
        Self { http1, http2 }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    http: Rc<Http>,
    worker: Rc<Shared>,
    watch: Rc<Watch>,
) {
    let gateway = Gateway::new(worker, peer, watch.clone());
    let mut socket = Socket::new(stream, watch.clone(), gateway.clone());
    match first_bytes(&socket, &watch).await {
        None => return,
        Some(Protocol::Http2) => {
            watch.speaks_http2();
            return Box::pin(serve_http2(socket, gateway, &http, &watch)).await;
        }
        Some(Protocol::Http1) => {}
    }
    // Boxed: nothing of it is left while the connection is parked.
    while let Some(parked) = Box::pin(serve_http1(socket, &gateway, &http, &watch)).await {
        socket = parked;
        if !is_woken(&socket, &watch).await {
            return;
        }
    }
}

/// What a connection speaks.
enum Protocol {
    Http1,
    Http2,
}

/// Waits for enough to tell the protocol by; `None`: the connection ends before that.
async fn first_bytes(socket: &Socket, watch: &Watch) -> Option<Protocol> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let amount = poll_fn(|cx| match watch.poll_order(cx) {
            Order::Finish | Order::Abort => Poll::Ready(0),
            Order::GoOn | Order::Park | Order::RefuseHead => socket.poll_peek(cx, &mut seen),
        });
        let seen = match amount.await {
            0 => return None,
            amount => seen.get(..amount)?,
        };
        if seen == PREFACE {
            return Some(Protocol::Http2);
        }
        if !PREFACE.starts_with(seen) {
            return Some(Protocol::Http1);
        }
        tokio::time::sleep(NEXT_LOOK).await;
    }
}

async fn serve_http2(socket: Socket, gateway: Gateway, http: &Http, watch: &Watch) {
    let service = service_fn(|request| answer(gateway.clone(), request));
    let mut connection = pin!(http.http2.serve_connection(TokioIo::new(socket), service));
    drive(connection.as_mut(), watch).await;
}

/// Serves until the end, or until the connection is to be parked; then its socket is left.
async fn serve_http1(
    socket: Socket,
    gateway: &Gateway,
    http: &Http,
    watch: &Watch,
) -> Option<Socket> {
    let service = service_fn(|request| answer(gateway.clone(), request));
    let mut connection = http.http1.serve_connection(TokioIo::new(socket), service);
    match drive(Pin::new(&mut connection), watch).await {
        Ended::Closed => None,
        Ended::Parked => {
            let parts = connection.into_parts();
            Some(parts.io.into_inner().with_unread(parts.read_buf))
        }
    }
}

// Not through `tower::Service`, whose futures are boxed.
async fn answer(
    gateway: Gateway,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<crate::exchange::Recorded>, Infallible> {
    Ok(gateway.serve(request).await)
}

/// How serving a connection ended.
enum Ended {
    Closed,
    Parked,
}

async fn drive<C: GracefulConnection>(mut connection: Pin<&mut C>, watch: &Watch) -> Ended {
    let mut finishing = false;
    poll_fn(|cx| {
        match watch.poll_order(cx) {
            Order::GoOn | Order::RefuseHead => {}
            Order::Park => return Poll::Ready(Ended::Parked),
            Order::Finish if finishing => {}
            Order::Finish => {
                finishing = true;
                connection.as_mut().graceful_shutdown();
            }
            Order::Abort => return Poll::Ready(Ended::Closed),
        }
        // How a client's connection ends is of interest to nobody: each request has its record.
        connection.as_mut().poll(cx).map(|_| Ended::Closed)
    })
    .await
}

/// Waits for something to come over a parked connection; false: it is to end.
async fn is_woken(socket: &Socket, watch: &Watch) -> bool {
    poll_fn(|cx| match watch.poll_order(cx) {
        Order::Finish | Order::Abort => Poll::Ready(false),
        Order::GoOn | Order::Park | Order::RefuseHead => socket.poll_readable(cx).map(|()| true),
    })
    .await
}
