//! What requests are made of: header blocks and DATA.

use std::rc::Rc;

use super::{Receiver, STREAM_WINDOW};
use crate::{
    buffers::CAPACITY,
    connection::http2::{
        frame::{self, Code, END_HEADERS, END_STREAM, FrameHead, PADDED, PRIORITY},
        head::{self, Head},
        stream::{Answered, Stream},
    },
    error::Refusal,
    framing::Framing,
    incoming::Incoming,
};

/// Bytes of a header block before it is uncompressed, and the frames it may come in.
const MAX_BLOCK: usize = CAPACITY;
const MAX_CONTINUATIONS: u32 = 32;

/// A request that was read.
pub(in crate::connection::http2) struct Begun {
    pub(in crate::connection::http2) stream: Rc<Stream>,
    pub(in crate::connection::http2) head: Head,
    /// How its body ends, or why it is refused.
    pub(in crate::connection::http2) framing: Result<Framing, Refusal>,
}

/// A header block that has not come to its end.
pub(super) struct Block {
    pub(super) stream: u32,
    is_last: bool,
    bytes: Vec<u8>,
    continuations: u32,
}

/// A DATA frame that has not come to its end.
pub(super) struct Data {
    /// `None`: of a stream that has ended, to be passed over.
    stream: Option<Rc<Stream>>,
    pub(super) left: usize,
    padding: usize,
    is_last: bool,
}

impl Receiver {
    pub(super) fn begin_data(
        &mut self,
        head: FrameHead,
        begin: usize,
        padding: usize,
    ) -> Result<(), Code> {
        let left = (head.length - begin).checked_sub(padding).ok_or(Code::Protocol)?;
        self.receivable -= head.length as i64;
        if self.receivable < 0 {
            return Err(Code::FlowControl);
        }
        self.inlet.shut(self.receivable == 0);
        if self.streams.is_idle(head.stream) {
            return Err(Code::Protocol);
        }
        if head.length == 0 && !head.has(END_STREAM) {
            self.streams.hear_noise()?;
        }
        let mut stream = self.streams.find(head.stream);
        match &stream {
            None => {
                self.unrenewed += head.length;
                self.unwanted.came(head.stream, left, head.has(END_STREAM));
                self.is_late(head.stream)?;
            }
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

    pub(super) fn take_data(&mut self, mut data: Data, unread: &[u8]) -> Result<(), Code> {
        let part = unread.get(..data.left).unwrap_or(unread);
        data.left -= part.len();
        let behind = unread.len() - part.len();
        let padding = if data.left == 0 { data.padding.min(behind) } else { 0 };
        data.padding -= padding;
        self.at += part.len() + padding;
        let has_ended = data.left == 0 && data.padding == 0;
        let is_last = has_ended && data.is_last;
        match &data.stream {
            Some(stream) if stream.answered() == Answered::No => {
                let fits = part.is_empty() || stream.put(part);
                if !fits || is_last && !stream.received_all() {
                    self.break_off(stream, Code::Protocol)?;
                }
            }
            Some(stream) => self.unwanted.came(stream.id, part.len(), is_last),
            None => {}
        }
        if !has_ended {
            self.data = Some(data);
        }
        Ok(())
    }

    pub(super) fn take_headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Code> {
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

    pub(super) fn take_continuation(
        &mut self,
        head: FrameHead,
        payload: &[u8],
    ) -> Result<(), Code> {
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
        if id.is_multiple_of(2) {
            return Err(Code::Protocol);
        }
        if !self.streams.is_idle(id) {
            return self.take_trailers(id, is_last, block);
        }
        self.streams.begin(id);
        if self.is_closed() {
            return self.pass_over(block);
        }
        if self.streams.are_full() {
            self.pass_over(block)?;
            self.put_reset(id, Code::RefusedStream);
            return Ok(());
        }
        let buffers = &self.session.worker().buffers;
        let read = Head::read(&mut self.decoder, block, buffers);
        let mut head = read.map_err(|_| Code::Compression)?;
        if !self.streams.have_room_for(head.size()) {
            head.give_back(buffers);
            self.put_reset(id, Code::RefusedStream);
            return Ok(());
        }
        let framing = head.framing(!is_last);
        let waits = !is_last && head.expects_continue();
        let incoming = Rc::new(Incoming::new(self.inlet.clone(), buffers.clone(), waits));
        if is_last {
            incoming.end();
        }
        let announced = match framing {
            Ok(Framing::Length(length)) => Some(length),
            _ => None,
        };
        let sendable = self.session.outgoing.borrow().initial_window;
        let windows = (STREAM_WINDOW, sendable);
        let stream = Rc::new(Stream::new(id, head.size(), incoming, announced, windows));
        self.streams.push(stream.clone());
        self.begun.push(Begun { stream, head, framing });
        Ok(())
    }

    /// What stands behind a body stays behind: an upstream may take it for headers.
    fn take_trailers(&mut self, id: u32, is_last: bool, block: &[u8]) -> Result<(), Code> {
        let mut bytes = self.session.worker().buffers.take();
        let trailers = head::are_trailers(&mut self.decoder, block, &mut bytes);
        self.session.worker().buffers.give_back(&mut bytes);
        let are_sound = trailers.map_err(|_| Code::Compression)?;
        match self.streams.find(id) {
            Some(stream) if stream.incoming.has_ended() => {
                self.break_off(&stream, Code::StreamClosed)
            }
            Some(stream) if !is_last || !are_sound || !stream.received_all() => {
                self.break_off(&stream, Code::Protocol)
            }
            Some(_) => Ok(()),
            None if self.is_closed() || self.streams.is_cut_off(id) => {
                self.unwanted.came(id, 0, is_last);
                Ok(())
            }
            None => Err(Code::Protocol),
        }
    }

    /// A frame of a stream that is no more: one that crossed the end on its way, or a mistake.
    fn is_late(&mut self, id: u32) -> Result<(), Code> {
        if !self.is_closed() && !self.streams.is_cut_off(id) {
            let out = &mut self.session.outgoing.borrow_mut().bytes;
            frame::put_reset(out, id, Code::StreamClosed);
        }
        self.streams.hear_noise()
    }

    /// Reads a block only so that the next one can be read.
    fn pass_over(&mut self, block: &[u8]) -> Result<(), Code> {
        let passed = self.decoder.decode(block, &mut Vec::new(), 0, |_, _| {});
        passed.map(drop).map_err(|_| Code::Compression)
    }
}
