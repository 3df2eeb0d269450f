//! A client that writes whatever frames it is given, and notes what it is sent.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use bytes::{Buf as _, BytesMut};

use super::super::node::Node;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Types of frames (section 6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

// Flags.
pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITIZED: u8 = 0x20;

// Codes of errors (section 7).
pub(super) const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
pub(super) const STREAM_CLOSED: u32 = 5;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const CANCEL: u32 = 8;
pub(super) const COMPRESSION_ERROR: u32 = 9;

// Settings (section 6.5.2).
pub(super) const HEADER_TABLE_SIZE: u16 = 1;
pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_FRAME_SIZE: u16 = 5;

/// The largest window (section 6.9.1).
pub(super) const MAX_WINDOW: u32 = (1 << 31) - 1;

/// Windows where nobody says otherwise (section 6.9.2).
pub(super) const WINDOW: u32 = 65_535;

pub(super) type Field<'a> = (&'a str, &'a str);

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals that are not indexed (RFC 7541 section 6.2.2).
pub(super) fn block(fields: &[Field<'_>]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, 0, 7, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A number behind the first bits of its first byte (RFC 7541 section 5.1).
pub(super) fn integer(block: &mut Vec<u8>, first: u8, bits: u32, number: usize) {
    let most = (1 << bits) - 1;
    let byte = |number: usize| u8::try_from(number).expect("masked");
    if number < most {
        return block.push(first | byte(number));
    }
    block.push(first | byte(most));
    let mut left = number - most;
    while left >= 128 {
        block.push(0x80 | byte(left & 0x7f));
        left >>= 7;
    }
    block.push(byte(left));
}

pub(super) fn head(method: &str, path: &str, more: &[Field<'_>]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a.b")];
    block(&[&pseudo, more].concat())
}

pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", path, &[]))
}

/// The head of a request with a body.
pub(super) fn post(stream: u32, path: &str, more: &[Field<'_>]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head("POST", path, more))
}

pub(super) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(super) fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

pub(super) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let settings = settings.iter();
    let payload = settings
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat().into_iter());
    frame(SETTINGS, 0, 0, &payload.collect::<Vec<_>>())
}

/// An answer as far as it came.
#[derive(Default, Debug)]
pub(super) struct Answer {
    /// Of the answers before the last.
    pub(super) interim: Vec<u16>,
    /// 0: none yet.
    pub(super) status: u16,
    /// How the body begins.
    pub(super) text: String,
    pub(super) size: usize,
    /// The type of the frame that ended it.
    pub(super) ended_by: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Closed,
    /// Nothing came for longer than the client waits.
    Silent,
}

/// What a connection was sent so far.
#[derive(Default, Debug)]
pub(super) struct Seen {
    /// The type of the first frame.
    pub(super) first: Option<u8>,
    /// By stream, like the codes of those that were reset.
    pub(super) answers: BTreeMap<u32, Answer>,
    pub(super) resets: BTreeMap<u32, u32>,
    /// The last stream and the code of the last GOAWAY.
    pub(super) goaway: Option<(u32, u32)>,
    pub(super) settings: BTreeMap<u16, u32>,
    pub(super) settings_acks: usize,
    pub(super) pongs: Vec<Vec<u8>>,
    /// The payload of the largest frame.
    pub(super) largest: usize,
    pub(super) end: Option<End>,
}

impl Seen {
    /// Whether a stream came to its end, in whatever way.
    pub(super) fn has_ended(&self, stream: u32) -> bool {
        self.resets.contains_key(&stream) || self.is_answered(stream)
    }

    pub(super) fn is_answered(&self, stream: u32) -> bool {
        self.answers.get(&stream).is_some_and(|answer| answer.ended_by.is_some())
    }

    /// 0: none.
    pub(super) fn status(&self, stream: u32) -> u16 {
        self.answers.get(&stream).map_or(0, |answer| answer.status)
    }

    /// Of an answer's body.
    pub(super) fn size(&self, stream: u32) -> usize {
        self.answers.get(&stream).map_or(0, |answer| answer.size)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.end == Some(End::Closed)
    }

    /// The code of a connection error.
    pub(super) fn error(&self) -> Option<u32> {
        self.goaway.map(|(_, code)| code).filter(|code| *code != NO_ERROR)
    }
}

pub(super) struct Client {
    pub(super) stream: TcpStream,
    /// Read and not yet taken apart.
    buffer: BytesMut,
    pub(super) seen: Seen,
    /// Before each read.
    pub(super) pause: Duration,
    /// The stream whose header block goes on.
    open_block: Option<u32>,
    /// By stream, and for the connection at 0: what the windows for sending were enlarged by,
    /// less what was sent.
    room: BTreeMap<u32, i64>,
}

impl Client {
    /// Connects, and says nothing.
    pub(super) fn silent(node: &Node) -> Self {
        let stream = TcpStream::connect(node.address).expect("a listening node");
        stream.set_write_timeout(Some(Duration::from_secs(3))).expect("a timeout");
        stream.set_nodelay(true).expect("a socket");
        let (buffer, seen, pause, open_block, room) = Default::default();
        let client = Self { stream, buffer, seen, pause, open_block, room };
        client.waits(3000);
        client
    }

    pub(super) fn start(node: &Node) -> Self {
        Self::start_with(node, &[])
    }

    /// Begins with these settings, and knows those of the node when it returns.
    pub(super) fn start_with(node: &Node, more: &[(u16, u32)]) -> Self {
        let mut client = Self::silent(node);
        // Without a dynamic table the status can be read from a block alone.
        let own = settings(&[&[(HEADER_TABLE_SIZE, 0)], more].concat());
        client.write(&[PREFACE, &own].concat());
        client.until(|seen| seen.first.is_some());
        client
    }

    /// How many milliseconds to wait for the node to say something.
    pub(super) fn waits(&self, patience: u64) {
        let patience = Duration::from_millis(patience);
        self.stream.set_read_timeout(Some(patience)).expect("a timeout");
    }

    /// Whether it was taken: the node may have closed the connection, or not read for long.
    pub(super) fn write(&mut self, frames: &[u8]) -> bool {
        self.stream.write_all(frames).is_ok()
    }

    /// Writes DATA once the windows have room for it; false: that does not come.
    pub(super) fn data(&mut self, stream: u32, flags: u8, payload: &[u8]) -> bool {
        let length = i64::try_from(payload.len()).expect("short");
        self.forget_silence();
        while self.seen.end.is_none() {
            let windows = [0, stream].map(|id| {
                let initial = self.seen.settings.get(&INITIAL_WINDOW_SIZE).filter(|_| id != 0);
                i64::from(*initial.unwrap_or(&WINDOW)) + self.room.get(&id).unwrap_or(&0)
            });
            if windows.iter().all(|window| *window >= length) {
                for id in [0, stream] {
                    *self.room.entry(id).or_default() -= length;
                }
                return self.write(&frame(DATA, flags, stream, payload));
            }
            self.read();
        }
        false
    }

    /// Reads until that holds or nothing more comes.
    pub(super) fn until(&mut self, holds: impl Fn(&Seen) -> bool) -> &Seen {
        self.forget_silence();
        while self.seen.end.is_none() && !holds(&self.seen) {
            self.read();
        }
        &self.seen
    }

    /// Reads until a stream has ended, or the connection has.
    pub(super) fn answer(&mut self, stream: u32) -> &Seen {
        self.until(|seen| seen.has_ended(stream))
    }

    /// Reads what comes in so many milliseconds after the last of it.
    pub(super) fn settle(&mut self, patience: u64) -> &Seen {
        self.waits(patience);
        self.until(|_| false);
        self.waits(3000);
        &self.seen
    }

    fn forget_silence(&mut self) {
        self.seen.end = self.seen.end.filter(|end| *end == End::Closed);
    }

    fn read(&mut self) {
        loop {
            if let Some(length) = self.buffer.first_chunk::<3>() {
                let length = usize::from(length[0]) << 16
                    | usize::from(length[1]) << 8
                    | usize::from(length[2]);
                if self.buffer.len() >= 9 + length {
                    let mut head = self.buffer.split_to(9);
                    let payload = self.buffer.split_to(length);
                    head.advance(3);
                    let (kind, flags) = (head.get_u8(), head.get_u8());
                    return self.note(kind, flags, head.get_u32(), &payload);
                }
            }
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece) {
                Ok(read @ 1..) => self.buffer.extend_from_slice(&piece[..read]),
                Err(fault) if matches!(fault.kind(), ErrorKind::WouldBlock) => {
                    return self.seen.end = Some(End::Silent);
                }
                Ok(_) | Err(_) => return self.seen.end = Some(End::Closed),
            }
        }
    }

    fn note(&mut self, kind: u8, flags: u8, stream: u32, mut payload: &[u8]) {
        if let Some(open) = self.open_block {
            assert_eq!((kind, stream), (CONTINUATION, open), "section 6.10");
        }
        if kind == HEADERS || kind == CONTINUATION {
            self.open_block = (flags & END_HEADERS == 0).then_some(stream);
        }
        let seen = &mut self.seen;
        seen.first = seen.first.or(Some(kind));
        seen.largest = seen.largest.max(payload.len());
        match kind {
            SETTINGS if flags & ACK != 0 => seen.settings_acks += 1,
            SETTINGS => {
                while payload.has_remaining() {
                    seen.settings.insert(payload.get_u16(), payload.get_u32());
                }
                self.write(&frame(SETTINGS, ACK, 0, &[]));
            }
            PING if flags & ACK != 0 => seen.pongs.push(payload.to_vec()),
            PING => drop(self.write(&frame(PING, ACK, 0, payload))),
            WINDOW_UPDATE => {
                *self.room.entry(stream).or_default() += i64::from(payload.get_u32());
            }
            GOAWAY => seen.goaway = Some((payload.get_u32(), payload.get_u32())),
            RST_STREAM => drop(seen.resets.insert(stream, payload.get_u32())),
            DATA | HEADERS => {
                assert_eq!(flags & (PADDED | PRIORITIZED), 0, "not expected of a server");
                let answer = seen.answers.entry(stream).or_default();
                if kind == DATA {
                    answer.size += payload.len();
                    let room = 1000_usize.saturating_sub(answer.text.len()).min(payload.len());
                    answer.text += &String::from_utf8_lossy(&payload[..room]);
                } else {
                    match status(payload) {
                        interim @ 100..200 => answer.interim.push(interim),
                        status => answer.status = status,
                    }
                }
                if flags & END_STREAM != 0 {
                    answer.ended_by = Some(kind);
                }
            }
            _ => {}
        }
    }
}

/// The status a header block begins with, where there is no dynamic table; 0: none.
fn status(mut block: &[u8]) -> u16 {
    // The table was made smaller (RFC 7541 section 6.3).
    while let [0x20..=0x3e, rest @ ..] = block {
        block = rest;
    }
    match block {
        // RFC 7541 appendix A.
        [index @ 0x88..=0x8e, ..] => {
            [200, 204, 206, 304, 400, 404, 500][usize::from(*index - 0x88)]
        }
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, 3, digits @ ..] => {
            digits[..3].iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'))
        }
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, length, code @ ..] if length & 0x80 != 0 => {
            let code = code[..usize::from(length & 0x7f)].iter();
            digits(code.fold(0, |bits, byte| bits << 8 | u32::from(*byte)), length & 0x7f)
        }
        _ => 0,
    }
}

/// Three digits of Huffman code (RFC 7541 appendix B) in the last so many bytes.
fn digits(code: u32, bytes: u8) -> u16 {
    let mut left = u32::from(bytes) * 8;
    (0..3).fold(0, |number, _| {
        let five = code >> (left - 5) & 0x1f;
        let (digit, bits) =
            if five < 3 { (five, 5) } else { ((code >> (left - 6) & 0x3f) - 22, 6) };
        left -= bits;
        number * 10 + u16::try_from(digit).unwrap_or_default()
    })
}
