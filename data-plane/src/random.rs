//! Random numbers for choices and ids: fast, one source per worker, and no secret.

use std::{
    cell::Cell,
    time::{Duration, SystemTime},
};

use uuid::{Builder, fmt::Hyphenated};

/// A SplitMix64 generator.
pub(crate) struct Random(Cell<u64>);

impl Random {
    /// A generator that starts where no other does.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub(crate) fn seeded() -> Result<Self, getrandom::Error> {
        Ok(Self(Cell::new(getrandom::u64()?)))
    }

    /// The generator whose numbers are the same every time.
    #[cfg(test)]
    pub(crate) fn of_seed(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// The next number.
    pub(crate) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A new request id: a UUID of version 7, so that ids sort by time.
    pub(crate) fn request_id(&self, now: SystemTime) -> [u8; Hyphenated::LENGTH] {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let mut random = [0; 10];
        for (place, byte) in random
            .iter_mut()
            .zip(self.next().to_ne_bytes().into_iter().chain(self.next().to_ne_bytes()))
        {
            *place = byte;
        }
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let mut text = [0; Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        text
    }
}
