//! The socket of a client connection. What is written to it is noted in the connection's [`Watch`].

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::io::poll_read_buf;

use crate::watch::Watch;

/// A client's connection, read and written from several places of one task.
pub(crate) struct Socket {
    // Borrowed for single calls below.
    stream: RefCell<TcpStream>,
    watch: Rc<Watch>,
}

impl Socket {
    /// The socket of a connection that was accepted.
    pub(crate) fn new(stream: TcpStream, watch: Rc<Watch>) -> Self {
        Self { stream: RefCell::new(stream), watch }
    }

    /// Reads on behind what is in `buffer`; 0 at the end of the stream.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        poll_read_buf(Pin::new(&mut *self.stream.borrow_mut()), cx, buffer)
    }

    /// Ready when there is something to be read, if only the end.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.borrow().poll_read_ready(cx).map(drop)
    }

    /// Writes as much of these as the client takes.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = write_parts(&mut *self.stream.borrow_mut(), cx, parts);
        self.watch.wrote(&wrote);
        wrote
    }

    /// Says that nothing more will be written.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }

    /// The same for a library that reads and writes as it likes, `unread` being what was read
    /// of it so far.
    pub(crate) fn into_io(self, unread: Vec<u8>) -> SocketIo {
        SocketIo { stream: self.stream.into_inner(), watch: self.watch, unread, at: 0 }
    }
}

/// Writes as much of these as the other side takes. One part alone takes the cheaper call.
pub(crate) fn write_parts(
    stream: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match parts {
        [one] | [one, ..] if parts.iter().skip(1).all(|part| part.is_empty()) => {
            Pin::new(stream).poll_write(cx, one)
        }
        _ => Pin::new(stream).poll_write_vectored(cx, parts),
    }
}

/// A client's connection that something else reads and writes.
pub(crate) struct SocketIo {
    stream: TcpStream,
    watch: Rc<Watch>,
    unread: Vec<u8>,
    at: usize,
}

impl AsyncRead for SocketIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unread = self.unread.get(self.at..).unwrap_or_default();
        if unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let amount = unread.len().min(buf.remaining());
        buf.put_slice(unread.get(..amount).unwrap_or_default());
        self.at += amount;
        if self.at == self.unread.len() {
            self.unread = Vec::new();
            self.at = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SocketIo {
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
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch.wrote(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
