//! Takes in what a client sends: frames, each for what it says and against what it may.

use std::{
    cell::Cell,
    collections::VecDeque,
    mem,
    rc::Rc,
    task::{Context, Poll},
};

use super::{
    answer::Session,
    frame::{
        self, ACK, Code, END_HEADERS, END_STREAM, FrameHead, HEAD, Kind, MAX_31, MAX_PAYLOAD,
        PADDED, PREFACE, PRIORITY, setting,
    },
    head::Head,
    outgoing::DEFAULT_WINDOW,
    stream::{Answered, Stream},
};
use crate::{
    buffers::CAPACITY, error::Refusal, framing::Framing, hpack::Decoder, incoming::Incoming,
    socket::Socket,
};

/// Requests of one connection under way.
const MAX_STREAMS: usize = 128;

/// Bytes that may be on their way of one body, and of all of a connection's.
const STREAM_WINDOW: u32 = 256 * 1024;
const WINDOW: u32 = 1024 * 1024;

/// Bytes of a header block before it is uncompressed, and the frames it may come in.
const MAX_BLOCK: usize = CAPACITY;
const MAX_CONTINUATIONS: u32 = 32;

/// Requests a client may take back before it has taken as many answers. One that goes on doing so
/// costs upstreams a lot and itself nothing.
const MAX_RESETS: u32 = 200;

/// Streams ended here while the client may still have been sending, remembered for as long as that
/// may take to arrive.
const REMEMBERED: usize = 128;

/// What is asked of a client before the end, to know what it had sent when it was told of it.
const FAREWELL: &[u8; 8] = b"farewell";

/// The receiving side of a connection.
pub(super) struct Receiver {
    session: Rc<Session>,
    /// What was read.
    input: Vec<u8>,
    /// How much of that is done with.
    at: usize,
    /// Whether there is something in it that was left because there was no room for answers.
    is_held: bool,
    stage: Stage,
    decoder: Decoder,
    block: Option<Block>,
    data: Option<Data>,
    /// Those that are neither answered nor reset, by id.
    streams: Vec<Rc<Stream>>,
    /// The highest id seen.
    last: u32,
    /// Ids of streams ended here before the client had.
    cut_off: VecDeque<u32>,
    resets: u32,
    /// Bytes the client may still send.
    receivable: i64,
    /// Bytes it may be allowed to send again.
    unrenewed: usize,
    /// Set when a body was taken from.
    mark: Rc<Cell<bool>>,
    ending: Ending,
    /// Requests to be served.
    pub(super) begun: Vec<Begun>,
}

/// A request that was read.
pub(super) struct Begun {
    pub(super) stream: Rc<Stream>,
    pub(super) head: Head,
    /// How its body ends, or why it is refused.
    pub(super) framing: Result<Framing, Refusal>,
}

/// What came of reading.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// Something, which was taken in as far as there is room for answers.
    Something,
    /// Nothing for now.
    Nothing,
    /// Nothing as long as there is no room for answers.
    Full,
    /// The end.
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Preface,
    /// What comes first is SETTINGS.
    Settings,
    Frames,
}

/// How far the connection is with ending.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// The client knows that it will.
    Warned,
    /// What comes now is not served any more.
    Closed,
    /// It broke the rules, and nothing is served any more.
    Failed,
}

/// A header block that has not come to its end.
struct Block {
    stream: u32,
    is_last: bool,
    bytes: Vec<u8>,
    continuations: u32,
}

/// A DATA frame that has not come to its end.
struct Data {
    /// `None`: of a stream that has ended, to be passed over.
    stream: Option<Rc<Stream>>,
    left: usize,
    padding: usize,
    is_last: bool,
}

impl Receiver {
    /// Begins by saying how things are done here.
    pub(super) fn new(session: Rc<Session>, begun: Vec<u8>) -> Self {
        let mut outgoing = session.outgoing.borrow_mut();
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, MAX_STREAMS as u32),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (setting::MAX_HEADER_LIST_SIZE, CAPACITY as u32),
        ];
        frame::put_settings(&mut outgoing.bytes, &settings);
        frame::put_window_update(&mut outgoing.bytes, 0, WINDOW - DEFAULT_WINDOW);
        drop(outgoing);
        Self {
            session,
            input: begun,
            at: 0,
            is_held: true,
            stage: Stage::Preface,
            decoder: Decoder::new(),
            block: None,
            data: None,
            streams: Vec::new(),
            last: 0,
            cut_off: VecDeque::new(),
            resets: 0,
            receivable: WINDOW.into(),
            unrenewed: 0,
            mark: Rc::default(),
            ending: Ending::No,
            begun: Vec::new(),
        }
    }

    /// Reads once, and takes in what came.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Received {
        if self.has_failed() {
            return Received::Nothing;
        }
        if self.session.outgoing.borrow().is_full() {
            return Received::Full;
        }
        if !mem::take(&mut self.is_held) {
            self.make_room();
            match socket.poll_read(cx, &mut self.input) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Received::Gone,
                Poll::Pending => {
                    if self.input.is_empty() {
                        self.session.worker().buffers.give_back(&mut self.input);
                    }
                    return Received::Nothing;
                }
            }
        }
        let input = mem::take(&mut self.input);
        let taken = self.take_frames(&input);
        self.input = input;
        if let Err(code) = taken {
            self.fail(code);
        }
        Received::Something
    }

    /// Whether the client is within a frame or a header block.
    pub(super) fn is_within_frame(&self) -> bool {
        self.at < self.input.len()
            || self.block.is_some()
            || self.data.is_some()
            || self.stage == Stage::Preface
    }

    /// Tells the client that the connection will end, and lets it go on with what it has begun.
    pub(super) fn warn(&mut self) {
        if self.ending == Ending::No {
            self.ending = Ending::Warned;
            let out = &mut self.session.outgoing.borrow_mut().bytes;
            frame::put_go_away(out, MAX_31, Code::NoError);
            frame::put_ping(out, 0, FAREWELL);
        }
    }

    /// Serves nothing from here that was not begun.
    pub(super) fn close(&mut self) {
        if matches!(self.ending, Ending::No | Ending::Warned) {
            self.ending = Ending::Closed;
            let out = &mut self.session.outgoing.borrow_mut().bytes;
            frame::put_go_away(out, self.last, Code::NoError);
        }
    }

    fn fail(&mut self, code: Code) {
        self.ending = Ending::Failed;
        frame::put_go_away(&mut self.session.outgoing.borrow_mut().bytes, self.last, code);
    }

    /// Whether nothing more will be served but what was begun.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.ending, Ending::Closed | Ending::Failed)
    }

    /// Whether the client has broken the rules of the connection.
    pub(super) fn has_failed(&self) -> bool {
        self.ending == Ending::Failed
    }

    /// Notes that a request was served, or is not wanted any more.
    pub(super) fn ended(&mut self, stream: &Stream) {
        match stream.answered() {
            Answered::Whole => {
                self.resets = self.resets.saturating_sub(1);
                if !stream.incoming.has_ended() {
                    // What it may still send is not wanted (RFC 9113 section 8.1).
                    self.put_reset(stream.id, Code::NoError);
                }
            }
            Answered::Broken(code) => self.put_reset(stream.id, code),
            Answered::No | Answered::Reset => {}
        }
        self.forget(stream.id);
        self.unrenewed += stream.owed();
    }

    /// Lets the client send as much again as was taken.
    pub(super) fn renew(&mut self) {
        let outgoing = &mut *self.session.outgoing.borrow_mut();
        if self.mark.take() {
            for stream in &self.streams {
                self.unrenewed += stream.renew(stream.incoming.taken());
                if let Some(amount) = stream.renewed(STREAM_WINDOW as usize / 2) {
                    frame::put_window_update(&mut outgoing.bytes, stream.id, amount);
                }
                if stream.incoming.is_to_be_asked_for() && stream.answered() == Answered::No {
                    outgoing.put_continue(stream.id);
                }
            }
        }
        if self.unrenewed >= WINDOW as usize / 2 {
            let amount = mem::take(&mut self.unrenewed);
            self.receivable += amount as i64;
            let amount = u32::try_from(amount).unwrap_or(MAX_31);
            frame::put_window_update(&mut outgoing.bytes, 0, amount);
        }
    }

    /// Lets streams go on that wait for room.
    pub(super) fn has_room(&self) {
        if self.session.is_waited_for.take() {
            self.streams.iter().for_each(|stream| stream.has_room());
        }
    }

    fn make_room(&mut self) {
        if self.at > 0 {
            drop(self.input.drain(..self.at));
            self.at = 0;
        }
        let much = self.data.as_ref().is_some_and(|data| data.left > MAX_PAYLOAD / 4);
        self.session.worker().buffers.make_room(&mut self.input, much);
    }

    /// Takes in every whole frame, and what there is of DATA.
    fn take_frames(&mut self, input: &[u8]) -> Result<(), Code> {
        loop {
            let unread = input.get(self.at..).unwrap_or_default();
            if self.stage == Stage::Preface {
                let begun = unread.get(..PREFACE.len()).unwrap_or(unread);
                if !PREFACE.starts_with(begun) {
                    return Err(Code::Protocol);
                }
                if begun.len() < PREFACE.len() {
                    return Ok(());
                }
                self.at += PREFACE.len();
                self.stage = Stage::Settings;
                continue;
            }
            if let Some(data) = self.data.take() {
                self.take_data(data, unread)?;
                if self.data.is_some() {
                    return Ok(());
                }
                continue;
            }
            if self.session.outgoing.borrow().is_full() {
                self.is_held = true;
                return Ok(());
            }
            let Some(head) = FrameHead::read(unread) else { return Ok(()) };
            self.check(head)?;
            let behind = unread.get(HEAD..).unwrap_or_default();
            if head.kind == Kind::Data {
                let (begin, padding) = match behind.first() {
                    _ if !head.has(PADDED) => (0, 0),
                    _ if head.length == 0 => return Err(Code::FrameSize),
                    None => return Ok(()),
                    Some(padding) => (1, usize::from(*padding)),
                };
                self.at += HEAD + begin;
                self.begin_data(head, begin, padding)?;
            } else {
                let Some(payload) = behind.get(..head.length) else { return Ok(()) };
                self.at += HEAD + head.length;
                self.take_frame(head, payload)?;
            }
        }
    }

    /// Whether a frame may stand where it does.
    fn check(&mut self, head: FrameHead) -> Result<(), Code> {
        if head.length > MAX_PAYLOAD {
            return Err(Code::FrameSize);
        }
        if self.stage == Stage::Settings {
            if head.kind != Kind::Settings || head.has(ACK) {
                return Err(Code::Protocol);
            }
            self.stage = Stage::Frames;
        }
        let is_sound = match (&self.block, head.kind) {
            (Some(block), Kind::Continuation) => head.stream == block.stream,
            (Some(_), _) | (None, Kind::Continuation | Kind::PushPromise) => false,
            (None, Kind::Settings | Kind::Ping | Kind::GoAway) => head.stream == 0,
            (None, Kind::Data | Kind::Headers | Kind::Priority | Kind::RstStream) => {
                head.stream != 0
            }
            (None, Kind::WindowUpdate | Kind::Unknown) => true,
        };
        if is_sound { Ok(()) } else { Err(Code::Protocol) }
    }

    fn take_frame(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Code> {
        match head.kind {
            Kind::Headers => self.take_headers(head, payload),
            Kind::Continuation => self.take_continuation(head, payload),
            Kind::Settings if head.has(ACK) && !payload.is_empty() => Err(Code::FrameSize),
            Kind::Settings if head.has(ACK) => Ok(()),
            Kind::Settings => self.take_settings(payload),
            Kind::Ping => self.take_ping(head, payload),
            Kind::RstStream => self.take_reset(head.stream, payload),
            Kind::WindowUpdate => self.take_window_update(head.stream, payload),
            // The client begins nothing new.
            Kind::GoAway if payload.len() < 8 => Err(Code::FrameSize),
            Kind::GoAway => {
                self.close();
                Ok(())
            }
            // Of no use to anyone (RFC 9113 section 5.3.2).
            Kind::Priority if payload.len() != 5 => Err(Code::FrameSize),
            Kind::Priority | Kind::Unknown | Kind::Data | Kind::PushPromise => Ok(()),
        }
    }

    fn begin_data(&mut self, head: FrameHead, begin: usize, padding: usize) -> Result<(), Code> {
        let left = (head.length - begin).checked_sub(padding).ok_or(Code::Protocol)?;
        self.receivable -= head.length as i64;
        if self.receivable < 0 {
            return Err(Code::FlowControl);
        }
        if self.is_idle(head.stream) {
            return Err(Code::Protocol);
        }
        let mut stream = self.find(head.stream);
        match &stream {
            None => self.unrenewed += head.length,
            Some(open) if open.incoming.has_ended() => {
                self.unrenewed += head.length;
                self.break_off(&open.clone(), Code::StreamClosed)?;
                stream = None;
            }
            Some(open) => {
                let received = open.received(head.length);
                self.unrenewed += open.renew(begin + padding);
                if received.is_err() {
                    self.break_off(&open.clone(), Code::FlowControl)?;
                    stream = None;
                }
            }
        }
        self.data = Some(Data { stream, left, padding, is_last: head.has(END_STREAM) });
        Ok(())
    }

    fn take_data(&mut self, mut data: Data, unread: &[u8]) -> Result<(), Code> {
        let part = unread.get(..data.left).unwrap_or(unread);
        data.left -= part.len();
        let behind = unread.len() - part.len();
        let padding = if data.left == 0 { data.padding.min(behind) } else { 0 };
        data.padding -= padding;
        self.at += part.len() + padding;
        let has_ended = data.left == 0 && data.padding == 0;
        let wanted = data.stream.clone().filter(|stream| stream.answered() == Answered::No);
        if let Some(stream) = &wanted {
            let fits = part.is_empty() || stream.put(part);
            if !fits || has_ended && data.is_last && !stream.received_all() {
                self.break_off(stream, Code::Protocol)?;
            }
        }
        if !has_ended {
            self.data = Some(data);
        }
        Ok(())
    }

    fn take_headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Code> {
        let (mut block, mut padding) = (payload, 0);
        if head.has(PADDED) {
            let (first, rest) = block.split_first().ok_or(Code::FrameSize)?;
            (block, padding) = (rest, usize::from(*first));
        }
        if head.has(PRIORITY) {
            block = block.get(5..).ok_or(Code::FrameSize)?;
        }
        let length = block.len().checked_sub(padding).ok_or(Code::Protocol)?;
        let block = block.get(..length).unwrap_or_default();
        let (stream, is_last) = (head.stream, head.has(END_STREAM));
        if head.has(END_HEADERS) {
            return self.end_block(stream, is_last, block);
        }
        self.block = Some(Block { stream, is_last, bytes: block.to_vec(), continuations: 0 });
        Ok(())
    }

    fn take_continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Code> {
        let mut block = self.block.take().ok_or(Code::Protocol)?;
        block.continuations += 1;
        if block.bytes.len() + payload.len() > MAX_BLOCK || block.continuations > MAX_CONTINUATIONS
        {
            return Err(Code::EnhanceYourCalm);
        }
        block.bytes.extend_from_slice(payload);
        if head.has(END_HEADERS) {
            return self.end_block(block.stream, block.is_last, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    fn end_block(&mut self, id: u32, is_last: bool, block: &[u8]) -> Result<(), Code> {
        if id % 2 == 0 {
            return Err(Code::Protocol);
        }
        if id <= self.last {
            return self.take_trailers(id, is_last, block);
        }
        self.last = id;
        if self.is_closed() {
            return self.pass_over(block);
        }
        if self.streams.len() >= MAX_STREAMS {
            self.pass_over(block)?;
            self.put_reset(id, Code::RefusedStream);
            return Ok(());
        }
        let buffers = &self.session.worker().buffers;
        let head = Head::read(&mut self.decoder, block, buffers).map_err(|_| Code::Compression)?;
        let framing = head.framing(!is_last);
        let waits = !is_last && head.expects_continue();
        let incoming = Rc::new(Incoming::new(self.mark.clone(), buffers.clone(), waits));
        if is_last {
            incoming.end();
        }
        let announced = match framing {
            Ok(Framing::Length(length)) => Some(length),
            _ => None,
        };
        let sendable = self.session.outgoing.borrow().initial_window;
        let stream = Rc::new(Stream::new(id, incoming, announced, (STREAM_WINDOW, sendable)));
        self.streams.push(stream.clone());
        self.begun.push(Begun { stream, head, framing });
        Ok(())
    }

    /// What stands behind a body stays behind: an upstream may take it for headers.
    fn take_trailers(&mut self, id: u32, is_last: bool, block: &[u8]) -> Result<(), Code> {
        self.pass_over(block)?;
        match self.find(id) {
            Some(stream) if stream.incoming.has_ended() => {
                self.break_off(&stream, Code::StreamClosed)
            }
            Some(stream) if !is_last || !stream.received_all() => {
                self.break_off(&stream, Code::Protocol)
            }
            Some(_) => Ok(()),
            None if self.is_closed() || self.cut_off.contains(&id) => Ok(()),
            None => Err(Code::StreamClosed),
        }
    }

    /// Reads a block only so that the next one can be read.
    fn pass_over(&mut self, block: &[u8]) -> Result<(), Code> {
        let passed = self.decoder.decode(block, &mut Vec::new(), 0, |_, _| {});
        passed.map(drop).map_err(|_| Code::Compression)
    }

    fn take_settings(&mut self, payload: &[u8]) -> Result<(), Code> {
        let (settings, []) = payload.as_chunks::<6>() else { return Err(Code::FrameSize) };
        for [id1, id2, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*id1, *id2]) {
                setting::HEADER_TABLE_SIZE => {
                    self.session.outgoing.borrow_mut().encoder.set_max_size(value);
                }
                setting::ENABLE_PUSH if value > 1 => return Err(Code::Protocol),
                setting::INITIAL_WINDOW_SIZE => self.set_initial_window(value)?,
                setting::MAX_FRAME_SIZE if (value as usize) < MAX_PAYLOAD || value >= 1 << 24 => {
                    return Err(Code::Protocol);
                }
                // Of longer frames none are made, and the client is not asked for anything.
                _ => {}
            }
        }
        frame::put_settings_ack(&mut self.session.outgoing.borrow_mut().bytes);
        Ok(())
    }

    fn set_initial_window(&mut self, window: u32) -> Result<(), Code> {
        if window > MAX_31 {
            return Err(Code::FlowControl);
        }
        let before =
            mem::replace(&mut self.session.outgoing.borrow_mut().initial_window, i64::from(window));
        let by = i64::from(window) - before;
        let widened = self.streams.iter().try_for_each(|stream| stream.widen(by));
        widened.map_err(|_| Code::FlowControl)
    }

    fn take_ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Code> {
        if payload.len() != FAREWELL.len() {
            return Err(Code::FrameSize);
        }
        if !head.has(ACK) {
            frame::put_ping(&mut self.session.outgoing.borrow_mut().bytes, ACK, payload);
        } else if payload == FAREWELL && self.ending == Ending::Warned {
            self.close();
        }
        Ok(())
    }

    fn take_reset(&mut self, id: u32, payload: &[u8]) -> Result<(), Code> {
        if payload.len() != 4 {
            return Err(Code::FrameSize);
        }
        if self.is_idle(id) {
            return Err(Code::Protocol);
        }
        match self.find(id) {
            Some(stream) => self.take_back(&stream),
            None => Ok(()),
        }
    }

    fn take_window_update(&mut self, id: u32, payload: &[u8]) -> Result<(), Code> {
        let increment = payload.try_into().map_err(|_| Code::FrameSize)?;
        let increment = u32::from_be_bytes(increment) & MAX_31;
        if id == 0 {
            let widened = self.session.outgoing.borrow_mut().widen(increment);
            self.has_room();
            return match (increment, widened) {
                (0, _) => Err(Code::Protocol),
                (_, false) => Err(Code::FlowControl),
                (_, true) => Ok(()),
            };
        }
        if self.is_idle(id) {
            return Err(Code::Protocol);
        }
        let Some(stream) = self.find(id) else { return Ok(()) };
        if increment == 0 {
            return self.break_off(&stream, Code::Protocol);
        }
        match stream.widen(increment.into()) {
            Ok(()) => Ok(()),
            Err(_) => self.break_off(&stream, Code::FlowControl),
        }
    }

    /// Whether no stream of this id was begun.
    fn is_idle(&self, id: u32) -> bool {
        id % 2 == 0 || id > self.last
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.streams.binary_search_by_key(&id, |stream| stream.id).ok()
    }

    fn find(&self, id: u32) -> Option<Rc<Stream>> {
        self.streams.get(self.place(id)?).cloned()
    }

    fn forget(&mut self, id: u32) {
        if let Some(place) = self.place(id) {
            self.streams.remove(place);
        }
    }

    fn put_reset(&mut self, id: u32, code: Code) {
        frame::put_reset(&mut self.session.outgoing.borrow_mut().bytes, id, code);
        if self.cut_off.len() >= REMEMBERED {
            self.cut_off.pop_front();
        }
        self.cut_off.push_back(id);
    }

    /// Ends a stream on which the client has broken the rules.
    fn break_off(&mut self, stream: &Stream, code: Code) -> Result<(), Code> {
        self.put_reset(stream.id, code);
        self.take_back(stream)
    }

    /// Ends a stream whose answer is not wanted any more, or shall not be.
    fn take_back(&mut self, stream: &Stream) -> Result<(), Code> {
        stream.reset();
        self.forget(stream.id);
        self.resets += 1;
        if self.resets > MAX_RESETS { Err(Code::EnhanceYourCalm) } else { Ok(()) }
    }
}
