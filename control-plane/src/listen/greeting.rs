//! What comes before the first call: the first byte, and over TLS the handshake.

use std::{io, sync::Arc};

use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::identity::{NodeTls, Peer};

/// What TLS begins with, and no request does (RFC 8446 section 5.1: a record of the handshake).
const TLS: u8 = 22;

/// What is read of a request in plain text so that its client reads the answer.
const READ: u64 = 64 << 10;

/// How connections come in.
#[derive(Clone)]
pub(crate) enum Transport {
    /// As plain text, so from this machine alone.
    Plain,
    /// Over TLS.
    Tls(Tls),
}

/// How TLS is spoken on a port.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: Acceptor,
    /// Handshakes that came to nothing, though the client had said something.
    pub(crate) failures: Counter,
}

/// Shakes hands.
#[derive(Clone)]
pub(crate) enum Acceptor {
    /// With whoever comes: each call says whose it is.
    Anyone(TlsAcceptor),
    /// With nodes, and says which.
    Nodes(Arc<NodeTls>),
}

/// A connection that may make calls.
pub(super) enum Greeted {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>, Peer),
    /// It is no node, on a port of nodes.
    Stranger(Box<TlsStream<TcpStream>>, Peer),
}

impl Transport {
    /// Waits until the client has said what it speaks, and over TLS until both can talk. `None`: it left, or
    /// was told why not. Dropped before it is ready, it counts as failed if the client has begun.
    pub(super) async fn greet(self, stream: TcpStream) -> Option<Greeted> {
        // Until the first byte says which HTTP it is, hyper has no timer running.
        let mut first = [0];
        if !matches!(stream.peek(&mut first).await, Ok(1..)) {
            return None;
        }
        super::prepare(&stream);
        let Self::Tls(tls) = self else { return Some(Greeted::Plain(stream)) };
        let attempt = Attempt { failures: &tls.failures, is_done: false };
        if first != [TLS] {
            // One that is gone already is told nothing.
            drop(refuse(stream).await);
            return None;
        }
        match tls.acceptor.accept(stream).await {
            Ok((stream, peer)) => {
                attempt.succeeds();
                let is_strange = matches!(tls.acceptor, Acceptor::Nodes(_)) && peer.may_only_join();
                let greeted = if is_strange { Greeted::Stranger } else { Greeted::Tls };
                Some(greeted(Box::new(stream), peer))
            }
            Err(fault) => {
                tracing::debug!(error = %fault, "a handshake came to nothing");
                None
            }
        }
    }
}

impl Acceptor {
    async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Peer)> {
        match self {
            Self::Anyone(acceptor) => Ok((acceptor.accept(stream).await?, Peer::Stranger)),
            Self::Nodes(tls) => tls.accept(stream).await,
        }
    }
}

/// A handshake. It has failed when it is dropped, unless it is done.
struct Attempt<'a> {
    failures: &'a Counter,
    is_done: bool,
}

impl Attempt<'_> {
    fn succeeds(mut self) {
        self.is_done = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.failures.inc();
        }
    }
}

/// Answers a request in plain text that a port of TLS was sent.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let body = "this port speaks TLS: begin its address with https://\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with something unread would reset the connection, and the answer with it.
    copy(&mut stream.take(READ), &mut sink()).await.map(drop)
}
