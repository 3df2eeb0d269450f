//! Reads a body out of what came over a connection.
//!
//! It has no socket: whoever has one reads on into the buffer when all that is in it is done with.

use std::{io, mem, task::Poll};

use crate::{
    body::BodyFault,
    buffers::Buffers,
    framing::{Decoder, Framing, Piece},
};

/// What was read of a body, and of what stands before and behind it.
pub(crate) struct BodyReader {
    /// What was read. Only to be read on into, once there is room.
    pub(crate) buffer: Vec<u8>,
    /// How much of that is done with.
    at: usize,
    /// How much of the rest is data that was found and not taken.
    found: usize,
    decoder: Decoder,
}

impl BodyReader {
    /// Of a body that begins with this buffer.
    pub(crate) fn new(buffer: Vec<u8>, framing: Framing) -> Self {
        Self { buffer, at: 0, found: 0, decoder: Decoder::new(framing) }
    }

    /// Begins a body behind a head of this length, which stays until there is room to be made.
    pub(crate) fn begin(&mut self, head: usize, framing: Framing) {
        self.at = head;
        self.found = 0;
        self.decoder = Decoder::new(framing);
    }

    /// Looks for data; false: the body has ended. Pending: all that was read is done with.
    pub(crate) fn find(&mut self) -> Poll<Result<bool, BodyFault>> {
        if self.found > 0 {
            return Poll::Ready(Ok(true));
        }
        let unread = self.buffer.get(self.at..).unwrap_or_default();
        let piece = self.decoder.next(unread).map_err(|_| BodyFault::Broken)?;
        let (Piece::Data { skip, .. } | Piece::Nothing { skip } | Piece::End { skip }) = piece;
        self.at += skip;
        match piece {
            Piece::Data { length, .. } => {
                self.found = length;
                Poll::Ready(Ok(true))
            }
            Piece::End { .. } => Poll::Ready(Ok(false)),
            Piece::Nothing { .. } => Poll::Pending,
        }
    }

    /// What [`BodyReader::find`] has found.
    pub(crate) fn data(&self) -> &[u8] {
        let unread = self.buffer.get(self.at..).unwrap_or_default();
        unread.get(..self.found).unwrap_or_default()
    }

    /// Takes so much of it.
    pub(crate) fn take(&mut self, length: usize) {
        self.at += length;
        self.found -= length.min(self.found);
    }

    /// Drops what is done with, and sees to it that something can be read behind the rest, and a
    /// lot of it where there is much to come.
    pub(crate) fn make_room(&mut self, buffers: &Buffers, much: bool) {
        if self.at == self.buffer.len() {
            self.buffer.clear();
        } else {
            drop(self.buffer.drain(..self.at));
        }
        self.at = 0;
        buffers.make_room(&mut self.buffer, much);
    }

    /// Takes in what came of reading on.
    ///
    /// # Errors
    /// When the connection is no more, and the body had not ended.
    pub(crate) fn has_read(&mut self, read: &io::Result<usize>) -> Result<(), BodyFault> {
        match read {
            Ok(1..) => Ok(()),
            Ok(0) => self.decoder.close().map_err(|_| BodyFault::Broken),
            Err(_) => Err(BodyFault::Broken),
        }
    }

    /// Whether all of the body was read, if not taken.
    pub(crate) fn has_come(&self) -> bool {
        self.decoder.has_ended()
    }

    /// Whether all of the body was read and taken.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_come() && self.found == 0
    }

    /// At most so many bytes are to be read, framing aside; `None`: nobody knows.
    pub(crate) fn left(&self) -> Option<u64> {
        self.decoder.left()
    }

    /// Whether the end was read, or is as near as that for all one can tell: a chunk says nothing
    /// of those behind it.
    pub(crate) fn ends_within(&self, bytes: u64) -> bool {
        let mut decoder = self.decoder;
        let mut at = self.at + self.found;
        loop {
            match decoder.next(self.buffer.get(at..).unwrap_or_default()) {
                Ok(Piece::Data { skip, length }) => at += skip + length,
                Ok(Piece::End { .. }) => return true,
                Ok(Piece::Nothing { .. }) => return decoder.at_least() <= bytes,
                Err(_) => return false,
            }
        }
    }

    /// Bytes that were read and not taken, whatever they are.
    pub(crate) fn ahead(&self) -> usize {
        self.buffer.len().saturating_sub(self.at)
    }

    /// What was read behind a body that has ended.
    pub(crate) fn take_behind(&mut self) -> Vec<u8> {
        if self.ahead() == 0 {
            return Vec::new();
        }
        drop(self.buffer.drain(..self.at));
        self.at = 0;
        mem::take(&mut self.buffer)
    }

    /// Gives the memory back, with all that was read.
    pub(crate) fn give_back(&mut self, buffers: &Buffers) {
        self.at = 0;
        buffers.give_back(&mut self.buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads what comes in pieces of this size, and takes as much of it at a time as `bite`.
    fn read(framing: Framing, behind_head: &[u8], piece: usize, bite: usize) -> (Vec<u8>, Vec<u8>) {
        let buffers = Buffers::default();
        let mut reader = BodyReader::new(b"head".to_vec(), Framing::Absent);
        reader.begin(4, framing);
        let mut body = Vec::new();
        let mut pieces = behind_head.chunks(piece);
        loop {
            match reader.find() {
                Poll::Ready(Ok(true)) => {
                    let some = reader.data().len().min(bite);
                    body.extend_from_slice(&reader.data()[..some]);
                    reader.take(some);
                }
                Poll::Ready(Ok(false)) => break,
                Poll::Ready(Err(fault)) => panic!("{fault}"),
                Poll::Pending => {
                    assert_eq!(reader.ahead(), 0);
                    reader.make_room(&buffers, false);
                    let piece = pieces.next().unwrap_or_default();
                    reader.buffer.extend_from_slice(piece);
                    reader.has_read(&Ok(piece.len())).expect("sound");
                }
            }
        }
        assert!(reader.has_ended());
        (body, reader.take_behind())
    }

    #[test]
    fn a_body_is_read_to_its_end_and_no_further() {
        let (length, chunked) = (Framing::Length(5), Framing::Chunked);
        for (framing, sent, body, behind) in [
            (length, "helloGET /", "hello", "GET /"),
            (chunked, "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\nGET /", "hello", "GET /"),
            (Framing::Absent, "", "", ""),
            (Framing::UntilClose, "hello", "hello", ""),
        ] {
            for (piece, bite) in [(1, 1), (2, 1), (3, 2), (100, 1), (100, 100)] {
                let (found, rest) = read(framing, sent.as_bytes(), piece, bite);
                assert_eq!(found, body.as_bytes(), "{sent:?} {piece} {bite}");
                assert!(behind.as_bytes().starts_with(&rest), "{sent:?} {piece} {bite}");
                assert!(piece < 100 || rest == behind.as_bytes(), "{sent:?} {bite}");
            }
        }
    }

    #[test]
    fn what_breaks_off_or_breaks_its_framing_is_broken() {
        let mut reader = BodyReader::new(b"1\r\nx\r\n!".to_vec(), Framing::Chunked);
        assert_eq!(reader.find(), Poll::Ready(Ok(true)));
        reader.take(1);
        assert_eq!(reader.find(), Poll::Ready(Err(BodyFault::Broken)));
        for (framing, ended) in [
            (Framing::Length(5), Err(BodyFault::Broken)),
            (Framing::Chunked, Err(BodyFault::Broken)),
            (Framing::UntilClose, Ok(())),
        ] {
            let mut reader = BodyReader::new(Vec::new(), framing);
            assert_eq!(reader.find(), Poll::Pending);
            assert_eq!(reader.has_read(&Ok(0)), ended, "{framing:?}");
        }
    }
}
