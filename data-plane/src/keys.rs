//! The keys a request can be made with, by the hash of their secrets.
//!
//! A key is kept once, as the record it was sent as. The table points to it for each of its secrets,
//! next to what every request asks of a key; the rest is read where it stands in the record.

use std::{
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::{
    model::{Fallback, Id, Key, KeyView, Limit, NamedLimit, Plan, RateLimit},
    secret::SecretHash,
};

use crate::{persistent::Persistent, record::Record, table::Table};

/// The plans keys may be on. Keys and plans come apart, in any order: a key may refer to one that is
/// not there.
pub(crate) type Plans = Persistent<Id, Arc<Plan>>;

/// All live secrets. A clone shares all of them, and a change costs the same however many there are.
#[derive(Clone, Default)]
pub(crate) struct KeyTable(Table<KeyEntry>);

/// One live secret and the key it opens: 32 bytes, of which there may be a million.
#[derive(Clone, Debug)]
pub(crate) struct KeyEntry {
    /// The key, shared by its secrets.
    pub(crate) key: HeldKey,
    /// Milliseconds since 1970, as they were sent: refused from then on. The end of the key, or of
    /// the secret if that is earlier. Half the size of a `SystemTime`.
    ends_at: Option<NonZeroU64>,
    /// Of the key's own; `None`: that of its plan, else the environment's default.
    rate_limit: Option<RateLimit>,
    /// Which secret of the key this is.
    pub(crate) version: u32,
    /// Where its hash stands in the record.
    hash_at: u32,
    fallback: Fallback,
    /// False once revoked.
    pub(crate) is_active: bool,
    /// Whether it is on a plan; on which, the record says.
    has_plan: bool,
    /// Whether its limits were ever reset; when last, the record says.
    was_reset: bool,
}

/// A key as it is held. A clone is one pointer, and keeps the key as it was.
#[derive(Clone, Debug)]
pub(crate) struct HeldKey(Record);

impl KeyTable {
    /// None, where about so many are to come.
    pub(crate) fn foreseeing(secrets: usize) -> Self {
        Self(Table::foreseeing(secrets))
    }

    /// What a secret opens.
    pub(crate) fn get(&self, secret: &SecretHash) -> Option<&KeyEntry> {
        self.0.find(place(secret), |entry| entry.is_opened_by(secret))
    }

    /// How many secrets there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Prepares for keys that are looked up next.
    pub(crate) fn touch<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        self.0.touch(keys.flat_map(|key| &key.secrets).map(|secret| place(&secret.hash)));
    }

    /// Lets the secrets of a key, none of which opens anything yet, open it. The record is the one
    /// that the key was read from.
    pub(crate) fn insert(&mut self, key: &Key, record: &Record) {
        for secret in &key.secrets {
            let Some(hash_at) = record.find(secret.hash.as_bytes()) else { continue };
            let entry = KeyEntry {
                key: HeldKey(record.clone()),
                ends_at: [key.expires_at, secret.expires_at]
                    .into_iter()
                    .flatten()
                    .min()
                    .map(unix_ms),
                rate_limit: key.rate_limit,
                version: secret.version,
                hash_at,
                fallback: key.fallback,
                is_active: key.is_active,
                has_plan: key.plan_id.is_some(),
                was_reset: key.limits_reset_at.is_some(),
            };
            self.0.add(place(&secret.hash), entry);
        }
    }

    /// Denies a secret, if it is this key that it opens.
    pub(crate) fn remove(&mut self, secret: &SecretHash, key: &Record) {
        self.0.remove(place(secret), |entry| {
            entry.key.0.is(key.kind(), key.id()) && entry.is_opened_by(secret)
        });
    }
}

impl KeyEntry {
    fn is_opened_by(&self, secret: &SecretHash) -> bool {
        let hash = self.key.0.bytes(self.hash_at, secret.as_bytes().len() as u32);
        SecretHash::from_bytes(hash).is_some_and(|hash| hash == *secret)
    }

    /// Whether it is refused at this moment because its time is over.
    pub(crate) fn has_expired(&self, now: SystemTime) -> bool {
        self.ends_at.is_some_and(|end| end <= unix_ms(now))
    }

    /// When it is refused from; `None`: it never ends.
    pub(crate) fn ends_at(&self) -> Option<SystemTime> {
        let since = Duration::from_millis(self.ends_at?.get());
        SystemTime::UNIX_EPOCH.checked_add(since)
    }

    /// The limits that hold for the key in an environment with these plans and this default: a rate
    /// of its own, else of its plan, else the default; and the further ones of its plan.
    pub(crate) fn limits<'a>(
        &self,
        plans: &'a Plans,
        default: Option<RateLimit>,
    ) -> (Option<Limit>, &'a [NamedLimit]) {
        let own = self.rate_limit.map(|rate| Limit::a_minute(rate, self.fallback));
        let plan = if self.has_plan { plans.get(self.key.plan_id()) } else { None };
        let further = plan.map_or(&[][..], |plan| &plan.limits);
        let default = || default.map(|rate| Limit::a_minute(rate, self.fallback));
        (own.or_else(|| plan.and_then(|plan| plan.limit)).or_else(default), further)
    }

    /// When its limits were made full again last, in milliseconds since 1970.
    pub(crate) fn limits_reset_at(&self) -> Option<NonZeroU64> {
        if self.was_reset { self.key.limits_reset_at() } else { None }
    }
}

impl HeldKey {
    #[cfg(test)]
    pub(crate) fn of(record: Record) -> Self {
        Self(record)
    }

    /// Names it in logs, metrics and admin interfaces.
    pub(crate) fn key_id(&self) -> &str {
        self.0.id()
    }

    /// Who it was issued to; what is in it may stand in a header.
    pub(crate) fn source_path(&self) -> &str {
        KeyView::new(self.0.value()).source_path()
    }

    /// The plan it is on; empty: none.
    pub(crate) fn plan_id(&self) -> &str {
        KeyView::new(self.0.value()).plan_id()
    }

    fn limits_reset_at(&self) -> Option<NonZeroU64> {
        KeyView::new(self.0.value()).limits_reset_at_ms()
    }

    /// What it may do.
    pub(crate) fn permissions(&self) -> impl Iterator<Item = &str> + Clone {
        KeyView::new(self.0.value()).permissions()
    }
}

/// SHA-256 is as evenly spread as can be: eight bytes of it are as good as any hash of all.
fn place(secret: &SecretHash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *secret.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Milliseconds since 1970; the first of them stands for what was before.
fn unix_ms(time: SystemTime) -> NonZeroU64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    NonZeroU64::new(ms).unwrap_or(NonZeroU64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_as_small_as_it_says() {
        assert_eq!((size_of::<KeyEntry>(), size_of::<HeldKey>()), (32, 8));
    }
}
