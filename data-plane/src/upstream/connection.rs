//! One connection to a target: a request is written, the head of its answer read, and the body
//! behind it shown as it comes.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    ops::Range,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use http::{Method, StatusCode};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use crate::{
    body::BodyFault,
    buffers::{Buffers, CAPACITY},
    framing::{Broken, Decoder, Framing, Piece, Said},
    head::{Index, Kind, Lines, MAX_LINES},
    socket::write_parts,
};

/// Answers of status 1xx that are read before the one they announce.
const MAX_INTERIM: u32 = 16;

/// An open connection. Dropping it closes it, whatever is still on its way.
pub(super) struct Connection {
    stream: TcpStream,
    buffers: Rc<Buffers>,
    /// The head of an answer, until more of its body is read; then the body alone.
    buffer: Vec<u8>,
    /// How much of that is done with.
    at: usize,
    /// How much of the rest is data that was found and not taken.
    found: usize,
    head: Head,
    decoder: Decoder,
    /// Interim answers since the request.
    interim: u32,
    /// Whether it can't be trusted to begin another answer where this one ends.
    is_spoilt: bool,
}

/// What is known of the head in the buffer.
struct Head {
    status: StatusCode,
    framing: Framing,
    /// Where the text behind the status stands.
    reason: Range<usize>,
    index: Index,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoAnswer {
    /// The connection ended before anything came.
    Closed,
    /// It ended within a head, or what came is no answer, or one that can be read in two ways.
    Bad,
}

impl Connection {
    /// A connection that was just made.
    pub(super) fn new(stream: TcpStream, buffers: Rc<Buffers>) -> Self {
        Self {
            stream,
            buffers,
            buffer: Vec::new(),
            at: 0,
            found: 0,
            head: Head::default(),
            decoder: Decoder::Ended,
            interim: 0,
            is_spoilt: false,
        }
    }

    /// Whether it is quiet: the other side has neither closed it nor said anything unasked.
    pub(super) fn is_quiet(&self) -> bool {
        // Not by polling, which says the same of a task that has done enough for now.
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|fault| fault.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether another request may follow: the answer was read to its end, and nothing behind it.
    pub(super) fn is_reusable(&self) -> bool {
        !self.is_spoilt && self.has_ended() && self.at == self.buffer.len()
    }

    /// Whether all of the answer was taken.
    pub(super) fn has_ended(&self) -> bool {
        self.decoder.has_ended() && self.found == 0
    }

    /// Gives back the memory it needs only while a request runs.
    pub(super) fn rest(&mut self) {
        self.forget_head();
        self.at = 0;
        self.interim = 0;
        self.buffers.give_back(&mut self.buffer);
    }

    /// Where it has its memory from.
    pub(super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Writes as much of these as the target takes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        write_parts(&mut self.stream, cx, parts)
    }

    /// Waits for the head of the answer to a request of this method.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<(), NoAnswer>> {
        loop {
            if self.buffer.len() >= CAPACITY {
                return Poll::Ready(Err(NoAnswer::Bad));
            }
            self.buffers.make_room(&mut self.buffer, false);
            let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.buffer));
            if !matches!(read, Ok(1..)) {
                let has_begun = !self.buffer.is_empty();
                let why = if has_begun { NoAnswer::Bad } else { NoAnswer::Closed };
                return Poll::Ready(Err(why));
            }
            if self.parse(method)? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Parses what was read; false: the head has not come to its end.
    fn parse(&mut self, method: &Method) -> Result<bool, NoAnswer> {
        loop {
            let mut lines = [const { MaybeUninit::uninit() }; MAX_LINES];
            let mut answer = httparse::Response::new(&mut []);
            let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
                &mut answer,
                &self.buffer,
                &mut lines,
            );
            let length = match parsed {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) => return Ok(false),
                Err(_) => return Err(NoAnswer::Bad),
            };
            let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
            let status = status.ok_or(NoAnswer::Bad)?;
            // Nothing was offered to switch to: what comes next is no HTTP that is known here.
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(NoAnswer::Bad);
            }
            if status.is_informational() {
                self.interim += 1;
                if self.interim > MAX_INTERIM {
                    return Err(NoAnswer::Bad);
                }
                drop(self.buffer.drain(..length));
                continue;
            }
            let index = Index::of(&self.buffer, answer.headers);
            let reason = answer.reason.unwrap_or_default();
            let start = reason.as_ptr().addr().wrapping_sub(self.buffer.as_ptr().addr());
            let reason = start..start + reason.len();
            let is_http11 = answer.version == Some(1);
            let lines = Lines::new(&self.buffer, &index);
            let said = Said::by_answer(lines, is_http11, method, status);
            let said = said.map_err(|_| NoAnswer::Bad)?;
            // HTTP/1.0 ends with each answer, unless it says otherwise, which few still do.
            self.is_spoilt =
                said.is_contradictory || !is_http11 || lines.has_token(Kind::Connection, b"close");
            self.decoder = Decoder::new(said.framing);
            self.head = Head { status, framing: said.framing, reason, index };
            self.at = length;
            // A body that is broken from the start is none to begin an answer for.
            let is_broken = matches!(self.find(), Poll::Ready(Err(_)));
            return if is_broken { Err(NoAnswer::Bad) } else { Ok(true) };
        }
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        self.head.status
    }

    /// How the body of the answer is delimited.
    pub(super) fn framing(&self) -> Framing {
        self.head.framing
    }

    /// What stands behind the status. Gone when more of the body is read.
    pub(super) fn reason(&self) -> &[u8] {
        self.buffer.get(self.head.reason.clone()).unwrap_or_default()
    }

    /// The header lines of the answer. Gone when more of the body is read.
    pub(super) fn lines(&self) -> Lines<'_> {
        Lines::new(&self.buffer, &self.head.index)
    }

    /// Waits for data of the body; false: it has ended.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyFault>> {
        loop {
            if let Poll::Ready(found) = self.find() {
                return Poll::Ready(found.map_err(|_| BodyFault::Broken));
            }
            self.forget_head();
            let was_filled = self.buffer.len() >= self.buffer.capacity();
            self.buffer.clear();
            self.at = 0;
            self.buffers.make_room(&mut self.buffer, was_filled);
            match ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.buffer)) {
                Ok(1..) => {}
                Ok(0) => self.decoder.close().map_err(|_| BodyFault::Broken)?,
                Err(_) => return Poll::Ready(Err(BodyFault::Broken)),
            }
        }
    }

    /// Looks for data in what was read, without losing the head; false: the body has ended.
    /// Pending: all of it is done with, and more has to be read.
    fn find(&mut self) -> Poll<Result<bool, Broken>> {
        if self.found > 0 {
            return Poll::Ready(Ok(true));
        }
        let unread = self.buffer.get(self.at..).unwrap_or_default();
        match self.decoder.next(unread)? {
            Piece::Data { skip, length } => {
                self.at += skip;
                self.found = length;
                Poll::Ready(Ok(true))
            }
            Piece::End { skip } => {
                self.at += skip;
                Poll::Ready(Ok(false))
            }
            Piece::Nothing { skip } => {
                self.at += skip;
                Poll::Pending
            }
        }
    }

    /// What [`Connection::poll_data`] has found.
    pub(super) fn data(&self) -> &[u8] {
        let unread = self.buffer.get(self.at..).unwrap_or_default();
        unread.get(..self.found).unwrap_or_default()
    }

    /// Takes so much of it.
    pub(super) fn take(&mut self, length: usize) {
        self.at += length;
        self.found -= length.min(self.found);
    }

    fn forget_head(&mut self) {
        self.head.index = Index::default();
        self.head.reason = 0..0;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.buffers.give_back(&mut self.buffer);
    }
}

impl Default for Head {
    fn default() -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            framing: Framing::Absent,
            reason: 0..0,
            index: Index::default(),
        }
    }
}
