//! Frames: what each begins with, and how they are written (RFC 9113 sections 4 and 6).

/// What a client begins with (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame before its payload.
pub(super) const HEAD: usize = 9;

/// The longest payload of a frame, either way: what every implementation takes.
pub(super) const MAX_PAYLOAD: usize = 16_384;

/// The largest stream id, window and increment of a window.
pub(super) const MAX_31: u32 = (1 << 31) - 1;

/// What a frame is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Data = 0,
    Headers = 1,
    Priority = 2,
    RstStream = 3,
    Settings = 4,
    PushPromise = 5,
    Ping = 6,
    GoAway = 7,
    WindowUpdate = 8,
    Continuation = 9,
    /// Of an extension, to be passed over.
    Unknown,
}

impl Kind {
    fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::RstStream,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Unknown,
        }
    }
}

/// On HEADERS and DATA: the last of its stream.
pub(super) const END_STREAM: u8 = 0x1;
/// On SETTINGS and PING: an answer.
pub(super) const ACK: u8 = 0x1;
/// On HEADERS and CONTINUATION: the last of its block.
pub(super) const END_HEADERS: u8 = 0x4;
/// On HEADERS and DATA: the payload begins with the length of what fills it up.
pub(super) const PADDED: u8 = 0x8;
/// On HEADERS: five bytes on what depends on what stand before the block.
pub(super) const PRIORITY: u8 = 0x20;

/// Why a stream or a connection ends (RFC 9113 section 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Code {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// What a peer may set (RFC 9113 section 6.5.2).
pub(super) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// The begin of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHead {
    /// Of the payload, in bytes.
    pub(super) length: usize,
    pub(super) kind: Kind,
    flags: u8,
    /// 0: the connection itself.
    pub(super) stream: u32,
}

impl FrameHead {
    /// Reads one from the begin of `bytes`; `None`: there are too few yet.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [l1, l2, l3, kind, flags, s1, s2, s3, s4] = *bytes.first_chunk::<HEAD>()?;
        Some(Self {
            length: u32::from_be_bytes([0, l1, l2, l3]) as usize,
            kind: Kind::of(kind),
            flags,
            stream: u32::from_be_bytes([s1, s2, s3, s4]) & MAX_31,
        })
    }

    /// Whether it holds a flag.
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The begin of a frame. `length` is at most [`MAX_PAYLOAD`].
pub(super) fn head(length: usize, kind: Kind, flags: u8, stream: u32) -> [u8; HEAD] {
    let [_, l1, l2, l3] = (length as u32).to_be_bytes();
    let [s1, s2, s3, s4] = stream.to_be_bytes();
    [l1, l2, l3, kind as u8, flags, s1, s2, s3, s4]
}

/// Writes it.
pub(super) fn put_head(out: &mut Vec<u8>, length: usize, kind: Kind, flags: u8, stream: u32) {
    out.extend_from_slice(&head(length, kind, flags, stream));
}

/// Writes how things are done here; `settings` are ids and values.
pub(super) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_head(out, settings.len() * 6, Kind::Settings, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Writes that the client's settings hold from here.
pub(super) fn put_settings_ack(out: &mut Vec<u8>) {
    put_head(out, 0, Kind::Settings, ACK, 0);
}

/// Writes a question whether the client is there, or the answer to one.
pub(super) fn put_ping(out: &mut Vec<u8>, flags: u8, payload: &[u8]) {
    put_head(out, payload.len(), Kind::Ping, flags, 0);
    out.extend_from_slice(payload);
}

/// Writes that a stream ends here.
pub(super) fn put_reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    put_head(out, 4, Kind::RstStream, 0, stream);
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

/// Writes that streams behind `last` are not served.
pub(super) fn put_go_away(out: &mut Vec<u8>, last: u32, code: Code) {
    put_head(out, 8, Kind::GoAway, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

/// Writes that so many bytes more may come, of a stream or of all.
pub(super) fn put_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put_head(out, 4, Kind::WindowUpdate, 0, stream);
    out.extend_from_slice(&increment.to_be_bytes());
}
