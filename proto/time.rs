//! How a point in time is written: as RFC 3339 has it, in the years 1 to 9999.

use std::fmt;

use jiff::{
    SignedDuration,
    civil::DateTime,
    fmt::temporal::{Pieces, PiecesOffset},
};
use prost_types::Timestamp;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// The largest offset from UTC that can be written, in seconds: 23:59.
const MAX_OFFSET: i32 = (23 * 60 + 59) * 60;

/// A time that can be written. A precision, as in `{:.3}`, is the digits after the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written(DateTime);

impl Written {
    /// `None` for what is no time of the years 1 to 9999.
    #[must_use]
    pub fn new(time: &Timestamp) -> Option<Self> {
        // Counted upwards, before 1970 too.
        if !(0..1_000_000_000).contains(&time.nanos) {
            return None;
        }
        let since = SignedDuration::new(time.seconds, time.nanos);
        let written = EPOCH.checked_add(since).ok().filter(|written| written.year() > 0)?;
        Some(Self(written))
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)?;
        f.write_str("Z")
    }
}

/// Reads a time such as `2030-01-31T12:00:00Z`, with any offset from UTC.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let pieces = Pieces::parse(text).ok()?;
    let offset = match pieces.offset()? {
        PiecesOffset::Zulu => 0,
        PiecesOffset::Numeric(offset) => offset.offset().seconds(),
        _ => return None,
    };
    if offset.abs() > MAX_OFFSET || pieces.time_zone_annotation().is_some() {
        return None;
    }
    let local = pieces.date().to_datetime(pieces.time()?).duration_since(EPOCH);
    let since = local - SignedDuration::from_secs(offset.into());
    // Below zero the parts of a second are counted upwards too.
    let seconds = since.as_secs() - i64::from(since.subsec_nanos() < 0);
    let nanos = since.subsec_nanos().rem_euclid(1_000_000_000);
    Some(Timestamp { seconds, nanos }).filter(|time| Written::new(time).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same_in_utc() {
        for (text, seconds, nanos, written) in [
            ("1970-01-01T00:00:00Z", 0, 0, "1970-01-01T00:00:00Z"),
            ("1970-01-01T00:00:01.5Z", 1, 500_000_000, "1970-01-01T00:00:01.5Z"),
            ("1969-12-31T23:59:59.5Z", -1, 500_000_000, "1969-12-31T23:59:59.5Z"),
            ("2030-01-31T12:00:00+01:30", 1_896_085_800, 0, "2030-01-31T10:30:00Z"),
            ("2030-01-31t12:00:00z", 1_896_091_200, 0, "2030-01-31T12:00:00Z"),
            ("2030-01-31T12:00:00-23:59", 1_896_177_540, 0, "2030-02-01T11:59:00Z"),
            ("9999-12-31T23:59:59Z", 253_402_300_799, 0, "9999-12-31T23:59:59Z"),
            (
                "9999-12-31T23:59:59.999999999Z",
                253_402_300_799,
                999_999_999,
                "9999-12-31T23:59:59.999999999Z",
            ),
            ("0001-01-01T00:00:00Z", -62_135_596_800, 0, "0001-01-01T00:00:00Z"),
        ] {
            let time = parse(text).expect(text);
            assert_eq!((time.seconds, time.nanos), (seconds, nanos), "{text}");
            assert_eq!(Written::new(&time).expect(text).to_string(), written);
        }
        let time = parse("2030-01-31T12:00:00.98765Z").expect("a time");
        let time = Written::new(&time).expect("a time");
        assert_eq!(format!("{time:.0} {time:.3}"), "2030-01-31T12:00:00Z 2030-01-31T12:00:00.987Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2030-01-31",
            "2030-01-31T12:00:00",
            "2030-02-30T12:00:00Z",
            "2030-01-31T12:00:00+24:00",
            "2030-01-31T12:00:00-25:00",
            "2030-01-31T12:00:00+23:59:59",
            "2030-01-31T12:00:00+01:00[Europe/Paris]",
            "9999-12-31T23:59:59-00:01",
            "0001-01-01T00:00:00+00:01",
            "+010000-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        for (seconds, nanos) in [
            (253_402_300_800, 0),
            (-62_135_596_801, 0),
            (i64::MAX, 0),
            (i64::MIN, 0),
            (0, -1),
            (0, 1_000_000_000),
        ] {
            assert_eq!(Written::new(&Timestamp { seconds, nanos }), None, "{seconds} {nanos}");
        }
    }
}
