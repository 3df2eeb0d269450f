//! What is written to a client: the frames of all its streams, gathered and sent together.

use std::{
    io::{self, IoSlice},
    rc::Rc,
    task::{Context, Poll, ready},
};

use http::StatusCode;

use super::frame::{self, END_HEADERS, END_STREAM, HEAD, Kind, MAX_31, MAX_PAYLOAD};
use crate::{buffers::Buffers, hpack::Encoder, socket::Socket};

/// Bytes that may wait to be written before streams stop adding to them.
const ROOM: usize = 64 * 1024;

/// Bytes that may wait before nothing more is read either: what is read may have to be answered.
const FULL: usize = 2 * ROOM;

/// The window of a stream and of a connection, as long as nobody says otherwise.
pub(super) const DEFAULT_WINDOW: u32 = 65_535;

/// Frames on their way to a client.
pub(super) struct Outgoing {
    pub(super) bytes: Vec<u8>,
    buffers: Rc<Buffers>,
    /// How much of them was written.
    sent: usize,
    pub(super) encoder: Encoder,
    /// Bytes of answers that the client still takes, over all streams.
    window: i64,
    /// The same of a stream that begins.
    pub(super) initial_window: i64,
}

/// A DATA frame that was written and may yet become the last of its stream.
pub(super) struct LastData {
    flags_at: usize,
}

impl Outgoing {
    pub(super) fn new(buffers: Rc<Buffers>) -> Self {
        Self {
            bytes: Vec::new(),
            buffers,
            sent: 0,
            encoder: Encoder::new(),
            window: DEFAULT_WINDOW.into(),
            initial_window: DEFAULT_WINDOW.into(),
        }
    }

    /// Whether nothing may be read any more.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() - self.sent >= FULL
    }

    /// How much of an answer there is room for.
    pub(super) fn room(&self) -> usize {
        let window = usize::try_from(self.window).unwrap_or(0);
        ROOM.saturating_sub(self.bytes.len() - self.sent).min(window)
    }

    /// The client takes so much more; false: more than there can be.
    pub(super) fn widen(&mut self, by: u32) -> bool {
        self.window += i64::from(by);
        self.window <= i64::from(MAX_31)
    }

    /// Writes a header block; `put` writes the lines.
    pub(super) fn put_headers(
        &mut self,
        stream: u32,
        is_last: bool,
        put: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        self.buffers.make_room(&mut self.bytes, false);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEAD]);
        self.encoder.begin(&mut self.bytes);
        put(&mut self.encoder, &mut self.bytes);
        let length = self.bytes.len() - at - HEAD;
        let flags = if is_last { END_STREAM } else { 0 };
        if length > MAX_PAYLOAD {
            let block = self.bytes.split_off(at + HEAD);
            self.bytes.truncate(at);
            return self.put_long_block(stream, flags, &block);
        }
        let head = frame::head(length, Kind::Headers, flags | END_HEADERS, stream);
        if let Some(place) = self.bytes.get_mut(at..at + HEAD) {
            place.copy_from_slice(&head);
        }
    }

    fn put_long_block(&mut self, stream: u32, flags: u8, block: &[u8]) {
        let pieces = block.chunks(MAX_PAYLOAD);
        let last = pieces.len() - 1;
        for (at, piece) in pieces.enumerate() {
            let (kind, flags) =
                if at == 0 { (Kind::Headers, flags) } else { (Kind::Continuation, 0) };
            let flags = if at == last { flags | END_HEADERS } else { flags };
            frame::put_head(&mut self.bytes, piece.len(), kind, flags, stream);
            self.bytes.extend_from_slice(piece);
        }
    }

    /// Writes a piece of a body, at most [`MAX_PAYLOAD`] of it and what there is room for.
    pub(super) fn put_data(&mut self, stream: u32, data: &[u8]) -> LastData {
        let is_long = self.bytes.len() + HEAD + data.len() > self.bytes.capacity();
        self.buffers.make_room(&mut self.bytes, is_long);
        let flags_at = self.bytes.len() + 4;
        frame::put_head(&mut self.bytes, data.len(), Kind::Data, 0, stream);
        self.bytes.extend_from_slice(data);
        self.window -= data.len() as i64;
        LastData { flags_at }
    }

    /// Makes the last frame of a stream out of one that nothing was written behind since.
    pub(super) fn end_with(&mut self, last: LastData) {
        if let Some(flags) = self.bytes.get_mut(last.flags_at) {
            *flags |= END_STREAM;
        }
    }

    /// Tells a client that its body is wanted (RFC 9110 section 15.2.1).
    pub(super) fn put_continue(&mut self, stream: u32) {
        self.put_headers(stream, false, |encoder, out| encoder.status(out, StatusCode::CONTINUE));
    }

    /// Sends what there is; ready when the client has taken all of it.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
    ) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.bytes.get(self.sent..) {
            let wrote = socket.poll_write(cx, &[IoSlice::new(rest)]);
            if wrote.is_pending() {
                self.forget_sent();
            }
            match ready!(wrote) {
                Ok(wrote @ 1..) => self.sent += wrote,
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Err(fault) => return Poll::Ready(Err(fault)),
            }
        }
        self.sent = 0;
        self.buffers.give_back(&mut self.bytes);
        socket.poll_flush(cx)
    }

    /// Drops what was sent, once that is most of it, so that little is moved: of a client that
    /// always leaves something all would be kept.
    fn forget_sent(&mut self) {
        if self.sent > self.bytes.len() / 2 {
            drop(self.bytes.drain(..self.sent));
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::Ipv4Addr};

    use socket2::SockRef;
    use tokio::{
        net::{TcpListener, TcpStream},
        task::yield_now,
        time::Instant,
    };

    use super::*;
    use crate::{socket::Stream, watch::Watch};

    #[tokio::test]
    async fn what_was_sent_is_not_kept_until_all_is() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).await.expect("connects");
        let (accepted, _) = listener.accept().await.expect("accepts");
        SockRef::from(&accepted).set_send_buffer_size(4096).expect("a socket");
        let socket = Socket::new(Stream::Plain(accepted), Watch::new(Instant::now()));
        let mut outgoing = Outgoing::new(Rc::default());
        assert!(outgoing.widen(1 << 30));
        let (mut taken, mut piece) = (0, [0; 8 * 1024]);
        while taken < 4 << 20 {
            while outgoing.room() > 0 {
                outgoing.put_data(1, &piece[..outgoing.room().min(1000)]);
            }
            let sent = poll_fn(|cx| Poll::Ready(outgoing.poll_send(cx, &socket))).await;
            if sent.is_pending() {
                yield_now().await;
                taken += client.try_read(&mut piece).unwrap_or(0);
            }
            let kept = outgoing.bytes.len();
            assert!(kept <= 3 * ROOM, "{kept} bytes are kept when {taken} were taken");
        }
    }
}
