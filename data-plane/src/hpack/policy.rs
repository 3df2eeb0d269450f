//! What the encoder knows of the names of lines in answers.

/// How a line is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// It is likely to be sent again as it is: it goes into the table.
    Kept,
    /// The next one will be another one: it would only push others out.
    Fresh,
    /// Nobody on the way may put it into any table, where it could be guessed at (RFC 7541
    /// section 7.1.3).
    Secret,
}

/// The way of a name in lower case, and its index among the lines every table begins with; 0: it
/// has none.
pub(super) fn of(name: &[u8]) -> (Way, usize) {
    use Way::{Fresh, Kept, Secret};
    // By length first, which leaves few to compare.
    match (name.len(), name) {
        (3, b"age") => (Fresh, 21),
        (3, b"via") => (Kept, 60),
        (4, b"date") => (Fresh, 33),
        (4, b"etag") => (Fresh, 34),
        (4, b"vary") => (Kept, 59),
        (4, b"link") => (Fresh, 45),
        (5, b"allow") => (Kept, 22),
        (6, b"server") => (Kept, 54),
        (6, b"cookie") => (Secret, 32),
        (6, b"cf-ray") => (Fresh, 0),
        (7, b"expires") => (Fresh, 36),
        (7, b"refresh") => (Fresh, 52),
        (7, b":status") => (Kept, 8),
        (8, b"location") => (Fresh, 46),
        (9, b"ratelimit") => (Fresh, 0),
        (9, b"x-api-key") => (Secret, 0),
        (9, b"x-runtime") => (Fresh, 0),
        (10, b"set-cookie") => (Secret, 55),
        (11, b"retry-after") => (Fresh, 53),
        (11, b"traceparent") => (Fresh, 0),
        (12, b"content-type") => (Kept, 31),
        (12, b"x-request-id") => (Fresh, 0),
        (13, b"cache-control") => (Kept, 24),
        (13, b"last-modified") => (Fresh, 44),
        (13, b"accept-ranges") => (Kept, 18),
        (13, b"content-range") => (Fresh, 30),
        (13, b"authorization") => (Secret, 23),
        (13, b"server-timing") => (Fresh, 0),
        (14, b"content-length") => (Fresh, 28),
        (15, b"x-response-time") => (Fresh, 0),
        (16, b"content-encoding") => (Kept, 26),
        (16, b"content-language") => (Kept, 27),
        (16, b"content-location") => (Fresh, 29),
        (16, b"www-authenticate") => (Secret, 61),
        (16, b"x-correlation-id") => (Fresh, 0),
        (17, b"transfer-encoding") => (Kept, 57),
        (18, b"proxy-authenticate") => (Secret, 48),
        (19, b"content-disposition") => (Kept, 25),
        (19, b"authentication-info") => (Secret, 0),
        (19, b"proxy-authorization") => (Secret, 49),
        (25, b"strict-transport-security") => (Kept, 56),
        (27, b"access-control-allow-origin") => (Kept, 20),
        _ => (Kept, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::fixed;

    #[test]
    fn indices_are_those_of_the_names() {
        for entry in &fixed::ENTRIES {
            let name = entry.name(entry.text(&fixed::BYTES));
            if let (_, index @ 1..) = of(name) {
                let found = fixed::ENTRIES[index - 1];
                assert_eq!(found.name(found.text(&fixed::BYTES)), name);
            }
        }
        assert_eq!(of(b"content-type"), (Way::Kept, 31));
        assert_eq!(of(b"set-cookie"), (Way::Secret, 55));
        assert_eq!(of(b"x-request-id"), (Way::Fresh, 0));
        assert_eq!(of(b"x-anything"), (Way::Kept, 0));
        assert_eq!(of(b""), (Way::Kept, 0));
    }
}
