//! The streams of a connection, and what a client may do with them before it has gone too far.

use std::{collections::VecDeque, rc::Rc, time::Duration};

use tokio::time::Instant;

use super::{frame::Code, stream::Stream};

/// Requests of one connection under way.
pub(super) const MAX_STREAMS: usize = 128;

/// Bytes of the heads of all of them: a header block of a few bytes may stand for one of 64 KiB.
const MAX_HEADS: usize = 2 * 1024 * 1024;

/// Requests a client may take back in a short time before any of their answers has begun, and before it has
/// taken as many answers. One that goes on doing so costs upstreams a lot and itself nothing.
const MAX_RESETS: u32 = 200;

/// Frames that ask for nothing, of which a client may send so many in a short time.
const MAX_NOISE: u32 = 10_000;

/// A short time.
const SHORT: Duration = Duration::from_secs(10);

/// How many of them each answer excuses: what crosses it on its way, such as windows that are
/// widened too late, or a body that nobody takes, which may be as many frames as fit into the
/// window of a connection.
const EXCUSED: u32 = 64;

/// Streams ended here while the client may still have been sending, remembered for as long as that
/// may take to arrive.
const REMEMBERED: usize = 128;

/// The streams of one connection.
pub(super) struct Streams {
    /// Those that are neither answered nor reset, by id.
    open: Vec<Rc<Stream>>,
    /// The highest id seen.
    last: u32,
    /// Ids of streams ended here before the client had.
    cut_off: VecDeque<u32>,
    /// Bytes of their heads.
    heads: usize,
    resets: Tally,
    noise: Tally,
}

/// What a client may not do too often, and since when that is counted.
struct Tally {
    count: u32,
    since: Instant,
}

impl Streams {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            open: Vec::new(),
            last: 0,
            cut_off: VecDeque::new(),
            heads: 0,
            resets: Tally::since(now),
            noise: Tally::since(now),
        }
    }

    /// The highest id of all that were begun.
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// Whether no stream of this id was begun.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        id.is_multiple_of(2) || id > self.last
    }

    /// Whether there is no room for another one.
    pub(super) fn are_full(&self) -> bool {
        self.open.len() >= MAX_STREAMS
    }

    /// Whether one may have a head of so many bytes.
    pub(super) fn have_room_for(&self, head: usize) -> bool {
        self.heads + head <= MAX_HEADS
    }

    /// Those that are neither answered nor reset.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<Stream>> {
        self.open.iter()
    }

    /// The same, of this id.
    pub(super) fn find(&self, id: u32) -> Option<Rc<Stream>> {
        self.open.get(self.place(id)?).cloned()
    }

    /// Notes that a stream begins, whatever becomes of it.
    pub(super) fn begin(&mut self, id: u32) {
        self.last = id;
    }

    /// Takes in the one that began.
    pub(super) fn push(&mut self, stream: Rc<Stream>) {
        self.heads += stream.head_size;
        self.open.push(stream);
    }

    /// Notes that one was answered.
    pub(super) fn was_answered(&mut self) {
        self.resets.excuse(1);
        self.noise.excuse(EXCUSED);
    }

    /// Notes that one is over.
    pub(super) fn forget(&mut self, id: u32) {
        if let Some(place) = self.place(id) {
            self.heads -= self.open.remove(place).head_size;
        }
    }

    /// Ends one whose answer is not wanted any more, or shall not be.
    ///
    /// # Errors
    /// When that happens too often.
    pub(super) fn take_back(&mut self, stream: &Stream) -> Result<(), Code> {
        stream.reset();
        self.forget(stream.id);
        // What streams for as long as it is wanted can end in no other way.
        if stream.is_begun() { Ok(()) } else { self.resets.add(MAX_RESETS) }
    }

    /// Notes that one was ended here, of which more may still come.
    pub(super) fn was_cut_off(&mut self, id: u32) {
        if self.cut_off.len() >= REMEMBERED {
            self.cut_off.pop_front();
        }
        self.cut_off.push_back(id);
    }

    /// Whether one was.
    pub(super) fn is_cut_off(&self, id: u32) -> bool {
        self.cut_off.contains(&id)
    }

    /// Counts a frame that asks for nothing.
    ///
    /// # Errors
    /// When there are too many: nobody has a use for them.
    pub(super) fn hear_noise(&mut self) -> Result<(), Code> {
        self.noise.add(MAX_NOISE)
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.open.binary_search_by_key(&id, |stream| stream.id).ok()
    }
}

impl Tally {
    fn since(since: Instant) -> Self {
        Self { count: 0, since }
    }

    /// Counts one more; an error when it is more than that many in a short time.
    fn add(&mut self, most: u32) -> Result<(), Code> {
        self.count += 1;
        if self.count <= most {
            return Ok(());
        }
        if self.since.elapsed() < SHORT {
            return Err(Code::EnhanceYourCalm);
        }
        *self = Self::since(Instant::now());
        Ok(())
    }

    fn excuse(&mut self, many: u32) {
        self.count = self.count.saturating_sub(many);
    }
}
