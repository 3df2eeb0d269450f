//! Tokens a worker holds of one bucket, by when they end.

use super::ask::Mark;

/// What is held. The batch that ends first is the first.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Batches([Batch; 2]);

/// Tokens that end at the same time.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Batch {
    pub(super) tokens: u64,
    pub(super) ends: u64,
    /// When half of its time is over.
    pub(super) half: u64,
    /// Whether they are so few that they can be spent for long.
    pub(super) are_few: bool,
    pub(super) mark: Mark,
}

impl Batch {
    fn is_void(&self, now: u64) -> bool {
        self.tokens > 0 && self.ends <= now
    }
}

impl IntoIterator for Batches {
    type Item = Batch;
    type IntoIter = std::array::IntoIter<Batch, 2>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Batches {
    /// How many there are.
    pub(super) fn tokens(&self) -> u64 {
        self.0.iter().map(|batch| batch.tokens).sum()
    }

    /// Takes one of those that end first. False: there is none.
    pub(super) fn spend(&mut self) -> bool {
        let first = self.0.iter_mut().find(|batch| batch.tokens > 0);
        first.map(|batch| batch.tokens -= 1).is_some()
    }

    /// Whether the time of some is over.
    pub(super) fn are_void(&self, now: u64) -> bool {
        self.0.iter().any(|batch| batch.is_void(now))
    }

    /// Takes those out.
    pub(super) fn take_void(&mut self, now: u64) -> impl Iterator<Item = Batch> + use<> {
        let before = self.0;
        self.0.iter_mut().filter(|batch| batch.is_void(now)).for_each(|batch| batch.tokens = 0);
        before.into_iter().filter(move |batch| batch.is_void(now))
    }

    /// Whether half of the time of those that came last is over.
    pub(super) fn are_half_over(&self, now: u64) -> bool {
        let [_, newest] = &self.0;
        newest.half <= now
    }

    /// Whether some are more than few.
    pub(super) fn are_many(&self) -> bool {
        self.0.iter().any(|batch| batch.tokens > 0 && !batch.are_few)
    }

    /// Keeps a batch. Where there are two already, they become one, with the earlier end.
    pub(super) fn put(&mut self, batch: Batch) {
        let [mut one, mut two] = self.0;
        if one.tokens == 0 {
            (one, two) = (two, Batch::default());
        }
        if one.tokens > 0 && two.tokens > 0 {
            one = Batch {
                tokens: one.tokens + two.tokens,
                are_few: one.are_few && two.are_few,
                mark: one.mark.older(two.mark),
                ..one
            };
        }
        two = batch;
        if one.tokens > 0 && two.ends < one.ends {
            (one, two) = (two, one);
        }
        self.0 = [one, two];
    }
}
