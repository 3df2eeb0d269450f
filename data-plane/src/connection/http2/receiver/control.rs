//! What a client says of the connection and its streams: settings, windows, that it is there, that
//! it does not want an answer any more.

use std::mem;

use super::{Ending, FAREWELL, Receiver};
use crate::connection::http2::frame::{self, ACK, Code, FrameHead, MAX_31, MAX_PAYLOAD, setting};

impl Receiver {
    pub(super) fn take_settings(&mut self, payload: &[u8]) -> Result<(), Code> {
        let (settings, []) = payload.as_chunks::<6>() else { return Err(Code::FrameSize) };
        // The last one counts: nothing happens in between (RFC 9113 section 6.5.3).
        let mut window = None;
        for [id1, id2, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*id1, *id2]) {
                setting::HEADER_TABLE_SIZE => {
                    self.session.outgoing.borrow_mut().encoder.set_max_size(value);
                }
                setting::ENABLE_PUSH if value > 1 => return Err(Code::Protocol),
                setting::INITIAL_WINDOW_SIZE if value > MAX_31 => return Err(Code::FlowControl),
                setting::INITIAL_WINDOW_SIZE => window = Some(value),
                setting::MAX_FRAME_SIZE if (value as usize) < MAX_PAYLOAD || value >= 1 << 24 => {
                    return Err(Code::Protocol);
                }
                // Of longer frames none are made, and the client is not asked for anything.
                _ => {}
            }
        }
        if let Some(window) = window {
            self.set_initial_window(window)?;
        }
        frame::put_settings_ack(&mut self.session.outgoing.borrow_mut().bytes);
        Ok(())
    }

    fn set_initial_window(&mut self, window: u32) -> Result<(), Code> {
        let before =
            mem::replace(&mut self.session.outgoing.borrow_mut().initial_window, i64::from(window));
        let by = i64::from(window) - before;
        let widened = self.streams.iter().try_for_each(|stream| stream.widen(by));
        widened.map_err(|_| Code::FlowControl)
    }

    pub(super) fn take_ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Code> {
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

    pub(super) fn take_reset(&mut self, id: u32, payload: &[u8]) -> Result<(), Code> {
        if payload.len() != 4 {
            return Err(Code::FrameSize);
        }
        if self.streams.is_idle(id) {
            return Err(Code::Protocol);
        }
        match self.streams.find(id) {
            Some(stream) => self.streams.take_back(&stream),
            None => {
                self.unwanted.came(id, 0, true);
                Ok(())
            }
        }
    }

    pub(super) fn take_window_update(&mut self, id: u32, payload: &[u8]) -> Result<(), Code> {
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
        if self.streams.is_idle(id) {
            return Err(Code::Protocol);
        }
        let Some(stream) = self.streams.find(id) else { return self.streams.hear_noise() };
        if increment == 0 {
            return self.break_off(&stream, Code::Protocol);
        }
        match stream.widen(increment.into()) {
            Ok(()) => Ok(()),
            Err(_) => self.break_off(&stream, Code::FlowControl),
        }
    }
}
