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
    body_reader::BodyReader,
    buffers::{Buffers, CAPACITY},
    framing::{Framing, Said},
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
    reader: BodyReader,
    head: Head,
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
            reader: BodyReader::new(Vec::new(), Framing::Absent),
            head: Head::default(),
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
        !self.is_spoilt && self.has_ended() && self.reader.ahead() == 0
    }

    /// Whether all of the answer was taken.
    pub(super) fn has_ended(&self) -> bool {
        self.reader.has_ended()
    }

    /// Gives back the memory it needs only while a request runs.
    pub(super) fn rest(&mut self) {
        self.forget_head();
        self.interim = 0;
        self.reader.give_back(&self.buffers);
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
            if self.reader.buffer.len() >= CAPACITY {
                return Poll::Ready(Err(NoAnswer::Bad));
            }
            self.buffers.make_room(&mut self.reader.buffer, false);
            let read =
                ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.reader.buffer));
            if !matches!(read, Ok(1..)) {
                let has_begun = !self.reader.buffer.is_empty();
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
                &self.reader.buffer,
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
                drop(self.reader.buffer.drain(..length));
                continue;
            }
            let index = Index::of(&self.reader.buffer, answer.headers);
            let reason = answer.reason.unwrap_or_default();
            let start = reason.as_ptr().addr().wrapping_sub(self.reader.buffer.as_ptr().addr());
            let reason = start..start + reason.len();
            let is_http11 = answer.version == Some(1);
            let lines = Lines::new(&self.reader.buffer, &index);
            let said = Said::by_answer(lines, is_http11, method, status);
            let said = said.map_err(|_| NoAnswer::Bad)?;
            // HTTP/1.0 ends with each answer, unless it says otherwise, which few still do.
            self.is_spoilt =
                said.is_contradictory || !is_http11 || lines.has_token(Kind::Connection, b"close");
            self.head = Head { status, framing: said.framing, reason, index };
            self.reader.begin(length, said.framing);
            // A body that is broken from the start is none to begin an answer for.
            let is_broken = matches!(self.reader.find(), Poll::Ready(Err(_)));
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
        self.reader.buffer.get(self.head.reason.clone()).unwrap_or_default()
    }

    /// The header lines of the answer. Gone when more of the body is read.
    pub(super) fn lines(&self) -> Lines<'_> {
        Lines::new(&self.reader.buffer, &self.head.index)
    }

    /// Waits for data of the body; false: it has ended.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyFault>> {
        loop {
            if let Poll::Ready(found) = self.reader.find() {
                return Poll::Ready(found);
            }
            self.forget_head();
            let was_filled = self.reader.buffer.len() >= self.reader.buffer.capacity();
            self.reader.make_room(&self.buffers, was_filled);
            let buffer = &mut self.reader.buffer;
            let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, buffer));
            self.reader.has_read(&read)?;
        }
    }

    /// What [`Connection::poll_data`] has found.
    pub(super) fn data(&self) -> &[u8] {
        self.reader.data()
    }

    /// Takes so much of it.
    pub(super) fn take(&mut self, length: usize) {
        self.reader.take(length);
    }

    fn forget_head(&mut self) {
        self.head.index = Index::default();
        self.head.reason = 0..0;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.give_back(&self.buffers);
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
