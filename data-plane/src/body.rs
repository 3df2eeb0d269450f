//! Bodies on their way through: what one side sends, piece by piece, and how it is passed on.
//!
//! Nothing is gathered. A [`Source`] shows what it has, a [`Pump`] writes it and then asks for
//! more, so that the slower side sets the pace.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use thiserror::Error;

use crate::buffers::{Buffers, CAPACITY};

/// Data at most this long is copied behind what goes out before it: to name both to the system costs
/// it more.
const JOINED: usize = 4096;

/// Why a body broke off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum BodyFault {
    /// No byte came for too long.
    #[error("the body stalled")]
    Stalled,
    /// It is longer than allowed.
    #[error("the body is too large")]
    TooLarge,
    /// The connection it came over broke, or it breaks the rules of its framing.
    #[error("the body broke off")]
    Broken,
    /// The client it is for has gone.
    #[error("the client is gone")]
    ClientGone,
}

/// Where a body comes from.
pub(crate) trait Source {
    /// Waits until there is data to be taken; false: the body has ended.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyFault>>;

    /// The data there is, which is empty where [`Source::poll_data`] has not said so.
    fn data(&self) -> &[u8];

    /// Takes this much of it.
    fn take(&mut self, length: usize);
}

/// How a body is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Coding {
    /// As it is: its length was said, or its connection ends with it.
    Plain,
    /// In chunks (RFC 9112 section 7.1).
    Chunked,
}

/// Why a pump stopped.
#[derive(Debug)]
pub(crate) enum PumpFault {
    /// The source broke off.
    Source(BodyFault),
    /// The other side takes nothing any more.
    Sink,
}

/// Writes a head and the body behind it.
pub(crate) struct Pump {
    /// What is to be written next: the head, then chunks.
    out: Vec<u8>,
    /// How much of that was written.
    sent: usize,
    coding: Coding,
    /// The end of the body is in `out`, or needs nothing written.
    has_all: bool,
    /// Bytes of the body that were written or are in `out`.
    passed: u64,
    /// Whether anything was written.
    has_written: bool,
}

impl Pump {
    /// A pump that begins with this head.
    pub(crate) fn new(head: Vec<u8>, coding: Coding) -> Self {
        Self { out: head, sent: 0, coding, has_all: false, passed: 0, has_written: false }
    }

    /// Bytes of the body that were passed on.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether everything was written.
    pub(crate) fn is_done(&self) -> bool {
        self.has_all && self.sent == self.out.len()
    }

    /// Whether anything was written.
    pub(crate) fn has_written(&self) -> bool {
        self.has_written
    }

    /// Whether nothing was written yet, and nothing of the body taken to be.
    pub(crate) fn is_unused(&self) -> bool {
        !self.has_written && self.passed == 0
    }

    /// Gives the memory back.
    pub(crate) fn give_back(&mut self, buffers: &Buffers) {
        buffers.give_back(&mut self.out);
    }

    /// Writes on, until all is written or one of the sides has to be waited for.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Source,
        mut write: impl FnMut(&mut Context<'_>, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<(), PumpFault>> {
        while !self.is_done() {
            let is_waiting = self.take_from(cx, source)?;
            let rest = self.out.get(self.sent..).unwrap_or_default();
            let plain = if self.coding == Coding::Plain { source.data() } else { &[] };
            if rest.is_empty() && plain.is_empty() {
                if is_waiting {
                    return Poll::Pending;
                }
                continue;
            }
            let length = rest.len();
            let fits = plain.len() <= self.out.capacity() - self.out.len();
            let wrote = if plain.len() <= JOINED && fits && length > 0 {
                let before = self.out.len();
                self.out.extend_from_slice(plain);
                let joined = self.out.get(self.sent..).unwrap_or_default();
                let wrote = write(cx, &[IoSlice::new(joined)]);
                // It is taken from its source once it was written: until then it may be sent anew.
                self.out.truncate(before);
                wrote
            } else {
                write(cx, &[IoSlice::new(rest), IoSlice::new(plain)])
            };
            let wrote = ready!(wrote).ok();
            let wrote = wrote.filter(|wrote| *wrote > 0).ok_or(PumpFault::Sink)?;
            self.has_written = true;
            let of_rest = wrote.min(length);
            let of_body = wrote - of_rest;
            self.sent += of_rest;
            if self.sent == self.out.len() {
                self.out.clear();
                self.sent = 0;
            }
            if of_body > 0 {
                self.passed += of_body as u64;
                source.take(of_body);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what was to be written when the source broke off: the other side sees how far it came.
    pub(crate) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Context<'_>, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<(), PumpFault>> {
        while let Some(rest @ [_, ..]) = self.out.get(self.sent..) {
            let wrote = ready!(write(cx, &[IoSlice::new(rest)]));
            self.sent += wrote.ok().filter(|wrote| *wrote > 0).ok_or(PumpFault::Sink)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Looks for data, and puts it into chunks where that is the coding; true: there is none, and
    /// more will come.
    fn take_from(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Source,
    ) -> Result<bool, PumpFault> {
        if self.has_all || self.out.len() >= CAPACITY {
            return Ok(false);
        }
        let Poll::Ready(found) = source.poll_data(cx) else { return Ok(true) };
        let has_data = found.map_err(PumpFault::Source)?;
        self.has_all = !has_data;
        if self.coding == Coding::Chunked {
            let data = source.data();
            let length = data.len();
            if has_data {
                put_chunk(&mut self.out, data);
                self.passed += length as u64;
                source.take(length);
            } else {
                self.out.extend_from_slice(b"0\r\n\r\n");
            }
        }
        Ok(false)
    }
}

fn put_chunk(out: &mut Vec<u8>, data: &[u8]) {
    let mut digits = [0; 16];
    let mut size = data.len();
    let mut first = digits.len();
    while size > 0 && first > 0 {
        first -= 1;
        if let Some(digit) = digits.get_mut(first) {
            *digit = b"0123456789abcdef".get(size % 16).copied().unwrap_or(b'0');
        }
        size /= 16;
    }
    out.extend_from_slice(digits.get(first..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// Gives pieces, and says in between that the next is still to come.
    struct Pieces {
        pieces: Vec<Vec<u8>>,
        now: Vec<u8>,
        waits: bool,
    }

    impl Source for Pieces {
        fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, BodyFault>> {
            if self.now.is_empty() {
                self.waits = !self.waits;
                if self.waits {
                    return Poll::Pending;
                }
                let Some(next) = self.pieces.pop() else { return Poll::Ready(Ok(false)) };
                self.now = next;
            }
            Poll::Ready(Ok(true))
        }

        fn data(&self) -> &[u8] {
            &self.now
        }

        fn take(&mut self, length: usize) {
            self.now.drain(..length);
        }
    }

    fn pump(pieces: &[Vec<u8>], coding: Coding, room: usize) -> (Vec<u8>, u64) {
        let pieces = pieces.iter().rev().cloned().collect();
        let mut source = Pieces { pieces, now: Vec::new(), waits: false };
        let mut pump = Pump::new(b"head ".to_vec(), coding);
        let mut written = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while pump
            .poll(&mut cx, &mut source, |_, parts| {
                let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
                let amount = all.len().min(room);
                written.extend_from_slice(&all[..amount]);
                Poll::Ready(Ok(amount))
            })
            .is_pending()
        {}
        (written, pump.passed())
    }

    proptest! {
        #[test]
        fn what_comes_in_goes_out_whatever_the_other_side_takes(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..10),
            room in 1_usize..80,
        ) {
            let whole = pieces.concat();
            let (written, passed) = pump(&pieces, Coding::Plain, room);
            prop_assert_eq!(written, [b"head ", &*whole].concat());
            prop_assert_eq!(passed, whole.len() as u64);

            let (written, passed) = pump(&pieces, Coding::Chunked, room);
            let mut coded = b"head ".to_vec();
            for piece in &pieces {
                coded.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                coded.extend_from_slice(piece);
                coded.extend_from_slice(b"\r\n");
            }
            coded.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(written, coded);
            prop_assert_eq!(passed, whole.len() as u64);
        }
    }

    /// What was taken out of a body can't be sent again.
    #[test]
    fn a_pump_that_took_data_counts_as_used_though_nothing_was_written() {
        for (coding, is_unused) in [(Coding::Plain, true), (Coding::Chunked, false)] {
            let mut source = Pieces { pieces: Vec::new(), now: b"x".to_vec(), waits: false };
            let mut pump = Pump::new(b"head".to_vec(), coding);
            let mut cx = Context::from_waker(Waker::noop());
            let broken = || Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            let ended = pump.poll(&mut cx, &mut source, |_, _| broken());
            assert!(matches!(ended, Poll::Ready(Err(PumpFault::Sink))));
            assert_eq!(pump.is_unused(), is_unused, "{coding:?}");
            assert_eq!(source.now.is_empty(), !is_unused, "{coding:?}");
        }
    }

    /// A source that breaks off at once.
    struct Broken;

    impl Source for Broken {
        fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, BodyFault>> {
            Poll::Ready(Err(BodyFault::Broken))
        }

        fn data(&self) -> &[u8] {
            &[]
        }

        fn take(&mut self, _: usize) {}
    }

    #[test]
    fn a_head_goes_out_though_its_body_breaks_off_before() {
        let mut pump = Pump::new(b"head".to_vec(), Coding::Chunked);
        let mut cx = Context::from_waker(Waker::noop());
        let ended = pump.poll(&mut cx, &mut Broken, |_, _| panic!("nothing is written"));
        assert!(matches!(ended, Poll::Ready(Err(PumpFault::Source(BodyFault::Broken)))));
        let mut written = Vec::new();
        let rest = pump.poll_rest(&mut cx, |_, parts| {
            written.push(parts[0][0]);
            Poll::Ready(Ok(1))
        });
        assert!(matches!(rest, Poll::Ready(Ok(()))));
        assert_eq!(written, b"head");
    }

    #[test]
    fn a_sink_that_takes_nothing_ends_it() {
        let mut source = Pieces { pieces: Vec::new(), now: b"x".to_vec(), waits: false };
        let mut pump = Pump::new(Vec::new(), Coding::Plain);
        let mut cx = Context::from_waker(Waker::noop());
        let ended = pump.poll(&mut cx, &mut source, |_, _| Poll::Ready(Ok(0)));
        assert!(matches!(ended, Poll::Ready(Err(PumpFault::Sink))));
    }
}
