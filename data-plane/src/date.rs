//! The time as `Date` writes it (RFC 9110 section 5.6.7), made once a second.

use std::{
    cell::Cell,
    time::{Duration, SystemTime},
};

/// Such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) type DateText = [u8; 29];

/// The date one worker wrote last.
pub(crate) struct Dates {
    /// Seconds since 1970, and their text.
    last: Cell<(u64, DateText)>,
}

impl Default for Dates {
    fn default() -> Self {
        Self { last: Cell::new((0, *b"Thu, 01 Jan 1970 00:00:00 GMT")) }
    }
}

impl Dates {
    /// The date of this moment.
    pub(crate) fn text(&self, now: SystemTime) -> DateText {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (seconds, text) = self.last.get();
        if seconds == since.as_secs() {
            return text;
        }
        let fresh = httpdate::fmt_http_date(now);
        let text = fresh.as_bytes().try_into().unwrap_or(text);
        self.last.set((since.as_secs(), text));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_the_second() {
        let dates = Dates::default();
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778, "Sun, 06 Nov 1994 08:49:38 GMT"),
        ] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 999);
            assert_eq!(dates.text(now), text.as_bytes(), "{seconds}");
            assert_eq!(dates.text(now), text.as_bytes(), "{seconds}");
        }
    }
}
