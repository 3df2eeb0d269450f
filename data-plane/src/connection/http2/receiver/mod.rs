//! Takes in what a client sends: frames, each for what it says and against what it may.

mod control;
mod messages;
mod unwanted;

use std::{
    mem,
    rc::Rc,
    task::{Context, Poll},
};

pub(super) use self::messages::Begun;
use self::{
    messages::{Block, Data},
    unwanted::Unwanted,
};
use super::{
    answer::Session,
    frame::{
        self, ACK, Code, FrameHead, HEAD, Kind, MAX_31, MAX_PAYLOAD, PADDED, PREFACE, setting,
    },
    outgoing::DEFAULT_WINDOW,
    stream::{Answered, Stream},
    streams::{MAX_STREAMS, Streams},
};
use crate::{buffers::CAPACITY, hpack::Decoder, incoming::Inlet, socket::Socket};

/// Bytes that may be on their way of one body, and of all of a connection's.
const STREAM_WINDOW: u32 = 256 * 1024;
const WINDOW: u32 = 1024 * 1024;

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
    streams: Streams,
    /// Bytes the client may still send.
    receivable: i64,
    /// Bytes it may be allowed to send again.
    unrenewed: usize,
    inlet: Rc<Inlet>,
    ending: Ending,
    /// Of requests that were answered before the client had sent all.
    unwanted: Unwanted,
    /// Requests to be served.
    pub(super) begun: Vec<Begun>,
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
    /// The client broke the rules, and nothing is served any more.
    Failed(Code),
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
        let unwanted = Unwanted::new(&session.worker().timers);
        Self {
            session,
            input: begun,
            at: 0,
            is_held: true,
            stage: Stage::Preface,
            decoder: Decoder::new(),
            block: None,
            data: None,
            streams: Streams::new(),
            receivable: WINDOW.into(),
            unrenewed: 0,
            inlet: Rc::default(),
            ending: Ending::No,
            unwanted,
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
            frame::put_go_away(out, self.streams.last(), Code::NoError);
        }
    }

    fn fail(&mut self, code: Code) {
        self.ending = Ending::Failed(code);
        frame::put_go_away(
            &mut self.session.outgoing.borrow_mut().bytes,
            self.streams.last(),
            code,
        );
    }

    /// Whether nothing more will be served but what was begun.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.ending, Ending::Closed | Ending::Failed(_))
    }

    /// Whether the client has broken the rules of the connection.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.ending, Ending::Failed(_))
    }

    /// Whether it has sent so much that nothing more of it is to be read.
    pub(super) fn is_flooded(&self) -> bool {
        self.ending == Ending::Failed(Code::EnhanceYourCalm)
    }

    /// Notes that a request was served, or is not wanted any more.
    pub(super) fn ended(&mut self, stream: &Stream) {
        match stream.answered() {
            Answered::Whole => {
                self.streams.was_answered();
                if !stream.incoming.has_ended() {
                    self.streams.was_cut_off(stream.id);
                    if !stream.has_come() {
                        self.unwanted.push(stream);
                    }
                }
            }
            Answered::Broken(code) => self.put_reset(stream.id, code),
            Answered::No | Answered::Reset => {}
        }
        self.streams.forget(stream.id);
        self.unrenewed += stream.owed();
    }

    /// Tells the client of answered requests that what it may still send of them is not wanted;
    /// false: there are none. In a write of its own behind the answer: see [`Unwanted`].
    pub(super) fn refuse_unwanted(&mut self, cx: &Context<'_>) -> bool {
        let due = self.unwanted.take_due(cx);
        let out = &mut self.session.outgoing.borrow_mut().bytes;
        due.iter().for_each(|id| frame::put_reset(out, *id, Code::NoError));
        !due.is_empty()
    }

    /// Lets the client send as much again as was taken.
    pub(super) fn renew(&mut self) {
        let outgoing = &mut *self.session.outgoing.borrow_mut();
        if self.inlet.was_changed() {
            for stream in self.streams.iter() {
                self.unrenewed += stream.renew(stream.incoming.taken());
                if let Some(amount) = stream.renewed(STREAM_WINDOW as usize / 2) {
                    frame::put_window_update(&mut outgoing.bytes, stream.id, amount);
                }
                if stream.incoming.is_to_be_asked_for() && stream.answered() == Answered::No {
                    outgoing.put_continue(stream.id);
                }
            }
        }
        // As soon as it doubles what the client may send: what others don't take may leave little.
        if self.unrenewed as i64 >= self.receivable.max(1) {
            let amount = mem::take(&mut self.unrenewed);
            self.receivable += amount as i64;
            self.inlet.shut(false);
            let amount = u32::try_from(amount).unwrap_or(MAX_31);
            frame::put_window_update(&mut outgoing.bytes, 0, amount);
        }
    }

    /// Lets streams go on that wait for room, if there is any: they would ask again and again.
    pub(super) fn has_room(&self) {
        let has_room = self.session.outgoing.borrow().room() > 0;
        if has_room && self.session.is_waited_for.take() {
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
        if !matches!(head.kind, Kind::Headers | Kind::Continuation | Kind::WindowUpdate) {
            self.streams.hear_noise()?;
        }
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

    /// Ends a stream on which the client has broken the rules.
    fn break_off(&mut self, stream: &Stream, code: Code) -> Result<(), Code> {
        self.put_reset(stream.id, code);
        self.streams.take_back(stream)
    }

    fn put_reset(&mut self, id: u32, code: Code) {
        frame::put_reset(&mut self.session.outgoing.borrow_mut().bytes, id, code);
        self.streams.was_cut_off(id);
    }
}
