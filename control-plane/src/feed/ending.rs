//! Which keys end soon, for people to be told in time.

use std::time::SystemTime;

use fastgate::node::v1::{EntityKind, KeyRecord};
use prost::Message as _;

use super::history::History;

/// Active keys that have not ended and will until then: when, in milliseconds since 1970, and which;
/// the first on top.
pub(super) fn keys_by(head: &History, until: SystemTime) -> Vec<(i64, String)> {
    let (now, until) = (unix_ms(SystemTime::now()), unix_ms(until));
    let records = head.entities().iter().filter(|entity| entity.kind() == EntityKind::Key);
    let records = records.filter_map(|entity| KeyRecord::decode(entity.value).ok());
    let ending = records.filter(|record| record.is_active).filter_map(|record| {
        let ends = record.expires_at_ms.filter(|ends| (now..=until).contains(ends))?;
        Some((ends, record.key_id))
    });
    let mut ending: Vec<_> = ending.collect();
    ending.sort_unstable();
    ending
}

fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
