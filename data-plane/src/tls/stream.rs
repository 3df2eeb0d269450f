//! One connection over TLS: what rustls makes of the bytes of a socket.
//!
//! What is written goes to the socket within the same call, all parts of it together. What the
//! socket does not take stays inside, encrypted, and goes before anything else: until then
//! nothing more is taken, and [`poll_flush`](AsyncWrite::poll_flush) says when it has gone.

use std::{
    io::{self, BufRead as _, ErrorKind, IoSlice, Read, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A client's connection, encrypted.
pub(crate) struct TlsStream {
    tcp: TcpStream,
    session: ServerConnection,
    /// Whether the client has said anything.
    was_spoken: bool,
    /// Whether the socket left something inside.
    is_blocked: bool,
    /// Whether it took something when it was last tried.
    has_moved: bool,
}

impl TlsStream {
    /// A connection whose handshake is still to come.
    ///
    /// # Errors
    /// When the config can't serve.
    pub(crate) fn new(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let session = ServerConnection::new(config)?;
        Ok(Self { tcp, session, was_spoken: false, is_blocked: false, has_moved: false })
    }

    /// Ready when client and node can talk.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            ready!(self.poll_send(cx))?;
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
        }
        // In TLS 1.3 all that is left is tickets, which go with the first answer.
        match self.session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Poll::Ready(Ok(())),
            _ => self.poll_send(cx),
        }
    }

    /// The protocol client and node have agreed on, if they have.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    /// Whether the client has said anything.
    pub(crate) fn was_spoken(&self) -> bool {
        self.was_spoken
    }

    /// Whether the socket took something in the last call, be it of what was inside.
    pub(crate) fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// The socket alone.
    pub(crate) fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    /// Ready when there is something to be read, if only the end.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.session.reader().into_first_chunk() {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(fault) if fault.kind() != ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(fault));
                }
                Err(_) => drop(ready!(self.poll_receive(cx))?),
            }
        }
    }

    /// Says that nothing more will come, to a client that may have gone already.
    pub(crate) fn say_goodbye(&mut self) {
        if !self.is_blocked {
            self.session.send_close_notify();
            drop(self.poll_send(&mut Context::from_waker(Waker::noop())));
        }
    }

    /// Reads what there is, and decrypts it; 0 at the end of the stream.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = would_block_is_pending(self.session.read_tls(&mut Sync(&mut self.tcp, cx)));
        let read = ready!(read)?;
        self.was_spoken |= read > 0;
        if let Err(fault) = self.session.process_new_packets() {
            // Tells the client what is wrong, if there is room for it.
            drop(self.poll_send(cx));
            return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, fault)));
        }
        Poll::Ready(Ok(read))
    }

    /// Sends all there is inside.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (self.is_blocked, self.has_moved) = (false, false);
        while self.session.wants_write() {
            let wrote = self.session.write_tls(&mut Sync(&mut self.tcp, cx));
            match would_block_is_pending(wrote) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(_)) => self.has_moved = true,
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Pending => {
                    self.is_blocked = true;
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_unblocked(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_blocked { self.poll_send(cx) } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_readable(cx))?;
        let mut reader = self.session.reader();
        // One record is one chunk: several may have come at once.
        while buf.remaining() > 0
            && let Ok(chunk @ [_, ..]) = reader.fill_buf()
        {
            let amount = chunk.len().min(buf.remaining());
            buf.put_slice(chunk.get(..amount).unwrap_or_default());
            reader.consume(amount);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unblocked(cx))?;
        let taken = self.session.writer().write_vectored(bufs)?;
        match self.poll_send(cx) {
            Poll::Ready(Err(fault)) => Poll::Ready(Err(fault)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unblocked(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.send_close_notify();
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// The socket as rustls takes it.
struct Sync<'a, 'b>(&'a mut TcpStream, &'a mut Context<'b>);

impl Read for Sync<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        pending_is_would_block(Pin::new(&mut *self.0).poll_read(self.1, &mut buf))?;
        Ok(buf.filled().len())
    }
}

impl Write for Sync<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        pending_is_would_block(Pin::new(&mut *self.0).poll_write(self.1, buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        pending_is_would_block(Pin::new(&mut *self.0).poll_write_vectored(self.1, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pending_is_would_block<T>(outcome: Poll<io::Result<T>>) -> io::Result<T> {
    match outcome {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

fn would_block_is_pending<T>(outcome: io::Result<T>) -> Poll<io::Result<T>> {
    match outcome {
        Err(fault) if fault.kind() == ErrorKind::WouldBlock => Poll::Pending,
        outcome => Poll::Ready(outcome),
    }
}
