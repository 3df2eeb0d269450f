//! One client connection, until its end or until its worker ends it.
//!
//! ```text
//! accepted ---------------> first bytes -> HTTP/1.1 | HTTP/2 -> end
//!         \-> handshake --/    or ALPN
//! ```
//!
//! Both protocols are our own, so that a request costs little and a connection between two requests
//! next to nothing.

mod http1;
mod http2;
mod linger;

use std::{future::poll_fn, io::ErrorKind, net::IpAddr, rc::Rc, sync::Arc, task::Poll};

use http::uri::Scheme;
use rustls::ServerConfig;
use tokio::net::TcpStream;

use self::{http1::Http1, http2::Http2, linger::linger};
use crate::{
    forwarding::Peer,
    gateway::Gateway,
    shared::Shared,
    socket::{Socket, Stream},
    tls::{HTTP2, HTTP11, TlsStream},
    watch::{Order, Watch},
};

/// What HTTP/2 begins with and no HTTP/1.1 request does (RFC 9113 section 3.4).
const PREFACE: &[u8; 4] = b"PRI ";

/// A connection that was accepted.
pub(crate) struct Connection {
    /// Where it came from.
    pub(crate) peer: IpAddr,
    pub(crate) worker: Rc<Shared>,
    pub(crate) watch: Rc<Watch>,
}

/// What became of a handshake.
enum Handshake {
    Done(Box<TlsStream>),
    /// What the client sent is no TLS, or none that is spoken here. It was told why.
    Refused(TcpStream),
    /// It broke off, took too long, or the worker ends.
    Failed,
}

impl Connection {
    /// Serves it to its end.
    pub(crate) fn serve(self, stream: TcpStream) -> impl Future<Output = ()> {
        let socket = Socket::new(Stream::Plain(stream), self.watch.clone());
        self.serve_as_it_begins(socket, Scheme::HTTP)
    }

    /// The same over TLS.
    pub(crate) async fn serve_tls(self, stream: TcpStream, config: Arc<ServerConfig>) {
        let tls = match self.shake_hands(stream, config).await {
            Handshake::Done(tls) => tls,
            Handshake::Refused(tcp) => {
                // Closing at once might reset what it was told.
                let socket = Socket::new(Stream::Plain(tcp), self.watch.clone());
                return linger(&socket, &self.watch, &self.worker.buffers).await;
            }
            Handshake::Failed => return,
        };
        let (is_http1, is_http2) = (tls.alpn() == Some(HTTP11), tls.alpn() == Some(HTTP2));
        let socket = Socket::new(Stream::Tls(tls), self.watch.clone());
        if is_http1 {
            self.http1(socket, Scheme::HTTPS).serve(Vec::new()).await;
        } else if is_http2 {
            self.serve_http2(socket, Scheme::HTTPS, Vec::new()).await;
        } else {
            self.serve_as_it_begins(socket, Scheme::HTTPS).await;
        }
    }

    async fn serve_as_it_begins(self, socket: Socket, scheme: Scheme) {
        let mut begun = Vec::new();
        if !self.has_begun(&socket, &mut begun).await {
            socket.say_goodbye();
        } else if begun.starts_with(PREFACE) {
            self.serve_http2(socket, scheme, begun).await;
        } else {
            self.http1(socket, scheme).serve(begun).await;
        }
    }

    async fn serve_http2(self, socket: Socket, scheme: Scheme, begun: Vec<u8>) {
        let gateway = Gateway { worker: self.worker, peer: Rc::new(Peer::new(self.peer, scheme)) };
        Box::pin(Http2::new(socket, gateway, self.watch).serve(begun)).await;
    }

    fn http1(self, socket: Socket, scheme: Scheme) -> Http1 {
        let gateway = Gateway { worker: self.worker, peer: Rc::new(Peer::new(self.peer, scheme)) };
        Http1::new(socket, gateway, self.watch)
    }

    /// Reads enough to tell the protocol by; false: the connection ends before that. What begins like
    /// HTTP/2 and does not go on in time is refused as HTTP/1.1 is: whoever can't tell yet reads that.
    async fn has_begun(&self, socket: &Socket, begun: &mut Vec<u8>) -> bool {
        let buffers = &self.worker.buffers;
        poll_fn(|cx| {
            loop {
                match self.watch.poll_order(cx) {
                    Order::GoOn => {}
                    Order::RefuseHead => return Poll::Ready(true),
                    Order::Finish | Order::Abort => return Poll::Ready(false),
                }
                if !begun.is_empty() && (begun.starts_with(PREFACE) || !PREFACE.starts_with(begun))
                {
                    return Poll::Ready(true);
                }
                if begun.capacity() == 0 {
                    *begun = buffers.take();
                }
                match socket.poll_read(cx, begun) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                    Poll::Pending => {
                        if begun.is_empty() {
                            buffers.give_back(begun);
                        } else {
                            self.watch.began_head();
                        }
                        return Poll::Pending;
                    }
                }
            }
        })
        .await
    }

    /// Begins TLS, in the time a request head may take.
    async fn shake_hands(&self, stream: TcpStream, config: Arc<ServerConfig>) -> Handshake {
        let Ok(tls) = TlsStream::new(stream, config) else { return Handshake::Failed };
        let mut tls = Box::new(tls);
        self.watch.began_head();
        let shaken = poll_fn(|cx| match self.watch.poll_order(cx) {
            Order::GoOn => tls.poll_handshake(cx).map(Some),
            Order::RefuseHead => Poll::Ready(Some(Err(ErrorKind::TimedOut.into()))),
            Order::Finish | Order::Abort => Poll::Ready(None),
        });
        let fault = match shaken.await {
            None => return Handshake::Failed,
            Some(Err(fault)) => fault,
            Some(Ok(())) => {
                self.watch.is_idle();
                return Handshake::Done(tls);
            }
        };
        // What looks whether the port is open says nothing, and leaves.
        if tls.was_spoken() || fault.kind() == ErrorKind::TimedOut {
            self.worker.metrics.tls_handshake_failures.add_one();
            tracing::debug!(peer = %self.peer, %fault, "a TLS handshake failed");
        }
        match fault.kind() {
            ErrorKind::InvalidData => Handshake::Refused(tls.into_tcp()),
            _ => Handshake::Failed,
        }
    }
}
