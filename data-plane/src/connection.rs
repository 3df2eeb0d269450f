//! One client connection: when it is idle, when it is too slow, and how it is asked to end.
//!
//! Connections keep no timers. Each notes what it is doing in a [`Watch`]; its worker looks
//! through all of them twice a second and ends the ones that overdo it.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::IpAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use hyper_util::{rt::TokioIo, server::conn::auto::Builder, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use crate::{gateway::Gateway, settings::Settings, worker::Shared};

/// What a connection is doing. Written by the connection, read by its worker's patrol.
pub(crate) struct Watch {
    doing: Cell<Doing>,
    /// Requests whose answer is not out yet.
    requests: Cell<u32>,
    /// HTTP/2 sends frames of its own between requests, which say nothing.
    is_http2: Cell<bool>,
    /// Since when the client takes nothing of what is written to it.
    blocked: Cell<Option<Instant>>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy)]
enum Doing {
    /// Nothing since.
    Idle(Instant),
    /// It began to send a request head.
    Head(Instant),
    /// It serves requests.
    Requests,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    GoOn,
    /// Finish what is under way, and take nothing new.
    Finish,
    /// End now.
    Abort,
}

impl Watch {
    pub(crate) fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            doing: Cell::new(Doing::Idle(now)),
            requests: Cell::new(0),
            is_http2: Cell::new(false),
            blocked: Cell::new(None),
            order: Cell::new(Order::GoOn),
            waker: RefCell::default(),
        })
    }

    /// Ends the connection if it has been idle, sending one head or taking nothing for too long.
    pub(crate) fn patrol(&self, now: Instant, settings: &Settings) {
        let is_over = |since: Instant, timeout| now.saturating_duration_since(since) > timeout;
        if self.blocked.get().is_some_and(|since| is_over(since, settings.body_timeout)) {
            return self.give(Order::Abort);
        }
        match self.doing.get() {
            Doing::Idle(since) if is_over(since, settings.keep_alive_timeout) => self.finish(),
            Doing::Head(since) if is_over(since, settings.header_timeout) => {
                self.give(Order::Abort);
            }
            Doing::Idle(_) | Doing::Head(_) | Doing::Requests => {}
        }
    }

    /// Asks the connection to finish what is under way and close.
    pub(crate) fn finish(&self) {
        self.give(Order::Finish);
    }

    /// Notes a request, until what is returned is dropped.
    pub(crate) fn request(self: &Rc<Self>) -> Busy {
        self.requests.set(self.requests.get() + 1);
        self.doing.set(Doing::Requests);
        Busy(self.clone())
    }

    fn received(&self, bytes: &[u8]) {
        if let Doing::Idle(_) = self.doing.get()
            && !self.is_http2.get()
        {
            self.is_http2.set(bytes.starts_with(b"PRI * HTTP/2"));
            self.doing.set(Doing::Head(Instant::now()));
        }
    }

    fn wrote<T>(&self, outcome: &Poll<T>) {
        match outcome {
            Poll::Ready(_) => self.blocked.set(None),
            Poll::Pending if self.blocked.get().is_none() => self.blocked.set(Some(Instant::now())),
            Poll::Pending => {}
        }
    }

    fn give(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A request under way on a connection.
pub(crate) struct Busy(Rc<Watch>);

impl Drop for Busy {
    fn drop(&mut self) {
        let left = self.0.requests.get().saturating_sub(1);
        self.0.requests.set(left);
        if left == 0 {
            self.0.doing.set(Doing::Idle(Instant::now()));
        }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    http: Rc<Builder<LocalExecutor>>,
    worker: Rc<Shared>,
    watch: Rc<Watch>,
) {
    let gateway = TowerToHyperService::new(Gateway::new(worker, peer, watch.clone()));
    let io = TokioIo::new(Watched { stream, watch: watch.clone() });
    let mut connection = pin!(http.serve_connection(io, gateway));
    let mut finishing = false;
    poll_fn(|cx| {
        match watch.order.get() {
            Order::GoOn => {}
            Order::Finish if finishing => {}
            Order::Finish => {
                finishing = true;
                connection.as_mut().graceful_shutdown();
            }
            Order::Abort => return Poll::Ready(()),
        }
        watch.waker.replace(Some(cx.waker().clone()));
        // How a client's connection ends is of interest to nobody: each request has its record.
        connection.as_mut().poll(cx).map(drop)
    })
    .await;
}

/// Runs what hyper spawns (the streams of an HTTP/2 connection) on the worker's own thread.
#[derive(Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A stream that notes when the first bytes of a request come, and when it can't write.
struct Watched {
    stream: TcpStream,
    watch: Rc<Watch>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(bytes @ [_, ..]) = buf.filled().get(before..) {
            self.watch.received(bytes);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch.wrote(&wrote);
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch.wrote(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
