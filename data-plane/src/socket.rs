//! The socket of a client connection, as hyper sees it.
//!
//! It notes what comes and goes in the connection's [`Watch`], and does two things hyper does not.
//! Where hyper refuses a head it can't read, the gateway's answer takes the place of the bare
//! status hyper would send; a head that does not come to an end is answered too. And a connection that is closed while its client is still sending
//! listens on for a while: closing at once would reset it, and the client would lose the answer
//! (RFC 9112 section 9.6).

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{gateway::Gateway, watch::Watch};

/// Bytes thrown away at once from a client that is still sending.
const SCRATCH: usize = 8 * 1024;

/// A client's connection.
pub(crate) struct Socket {
    stream: TcpStream,
    watch: Rc<Watch>,
    /// Answers for heads hyper can't read.
    gateway: Gateway,
    /// What is left to be written of such an answer.
    refusal: Bytes,
    /// What was read of the next request before hyper was taken off.
    unread: Bytes,
}

impl Socket {
    /// The socket of a connection that was accepted.
    pub(crate) fn new(stream: TcpStream, watch: Rc<Watch>, gateway: Gateway) -> Self {
        Self { stream, watch, gateway, refusal: Bytes::new(), unread: Bytes::new() }
    }

    /// Puts back what was read and not used.
    pub(crate) fn with_unread(self, unread: Bytes) -> Self {
        Self { unread, ..self }
    }

    /// Shows what will be read next, as far as it has come, and says how much that is; nothing at
    /// the end of the stream.
    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>, seen: &mut [u8]) -> Poll<usize> {
        let mut buf = ReadBuf::new(seen);
        self.stream.poll_peek(cx, &mut buf).map(|peeked| peeked.unwrap_or(0))
    }

    /// Ready when there is something to be read, if only the end.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unread.is_empty() {
            self.stream.poll_read_ready(cx).map(drop)
        } else {
            Poll::Ready(())
        }
    }

    /// Puts the gateway's refusal in the place of hyper's, if these bytes are one.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if !self.watch.is_silent() {
            return false;
        }
        let Some(status) = status_of(bytes) else { return false };
        self.refusal = self.gateway.refuse_unread(status);
        true
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.refusal.is_empty() {
            let wrote = Pin::new(&mut self.stream).poll_write(cx, &self.refusal);
            self.watch.wrote(&wrote);
            self.refusal.advance(ready!(wrote)?);
        }
        Poll::Ready(Ok(()))
    }
}

/// The status of an HTTP/1 answer.
fn status_of(bytes: &[u8]) -> Option<StatusCode> {
    let code = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?;
    StatusCode::from_bytes(code.get(..3)?).ok()
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.refuses_head() {
            let refusal = self.gateway.refuse_unread(StatusCode::REQUEST_TIMEOUT);
            // It fits into the empty send buffer, or the client does not want it.
            drop(self.stream.try_write(&refusal));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if !self.unread.is_empty() {
            let amount = self.unread.len().min(buf.remaining());
            let bytes = self.unread.split_to(amount);
            self.watch.received(&bytes);
            buf.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(bytes @ [_, ..]) = buf.filled().get(before..) {
            self.watch.received(bytes);
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.replaces(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch.wrote(&wrote);
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        self.watch.flushed();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        while self.watch.lingers() {
            let mut scratch = [0; SCRATCH];
            let mut scratch = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut scratch))?;
            if scratch.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.replaces(bufs.first().map_or(&[], |first| first)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch.wrote(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
