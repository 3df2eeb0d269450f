//! How values stand in columns.

use std::time::{Duration, SystemTime};

use fastgate::model::Id;

use crate::store::StoreError;
pub(super) use crate::store::unix_us as to_us;

/// The moment so many microseconds after 1970.
pub(super) fn from_us(us: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(us).unwrap_or(0))
}

/// Databases know no unsigned numbers; what is beyond their largest is their largest.
pub(super) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that was never negative when it was written.
pub(super) fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// An id that was checked before it was written.
pub(super) fn id(text: &str) -> Result<Id, StoreError> {
    Id::parse(text).map_err(|fault| broken(format!("'{text}' as an id: {fault}")))
}

/// Something in the database that no version of this program writes.
pub(super) fn broken(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Internal(what.into())
}

pub(super) fn not_found(kind: &'static str, id: &str) -> StoreError {
    StoreError::NotFound { kind, id: id.to_owned() }
}
