//! How much of one environment a node takes in, and how much of that may be written.

/// How much there is of something.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Size {
    /// Keys, or routes, upstreams, plans and settings.
    pub entities: u64,
    /// Those of all of them, as they are sent.
    pub bytes: u64,
}

impl Size {
    /// What a node takes of the config of its environment.
    pub const MOST_CONFIG: Self = Self { entities: 100_000, bytes: 256 << 20 };

    /// The keys a node is made for. It takes what is beyond that all the same: to refuse it would hold back
    /// revocations.
    pub const MOST_KEYS: Self = Self { entities: 5_000_000, bytes: 4 << 30 };

    /// Bytes a node takes of one entity.
    pub const MOST_OF_ONE: u64 = 512 << 10;

    /// Of these bounds, what the control plane lets be written: nodes are never at the end of what they take.
    #[must_use]
    pub const fn writable(self) -> Self {
        Self { entities: writable(self.entities), bytes: writable(self.bytes) }
    }

    /// What is more than `most`: its unit, how much of it there is, and how much there may be.
    #[must_use]
    pub fn beyond(self, most: Self) -> Option<(&'static str, u64, u64)> {
        [("objects", self.entities, most.entities), ("bytes", self.bytes, most.bytes)]
            .into_iter()
            .find(|(_, held, most)| held > most)
    }

    /// Counts one more of so many bytes.
    pub fn add(&mut self, bytes: usize) {
        self.entities = self.entities.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Counts one less.
    pub fn remove(&mut self, bytes: usize) {
        self.entities = self.entities.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes as u64);
    }
}

/// Four fifths of what a node takes.
#[must_use]
pub const fn writable(most: u64) -> u64 {
    most / 5 * 4
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        admin::v1::{Limit, Recording, Route, Target},
        model::{self, bounds},
    };

    /// So whoever writes a valid object is never told that it is too large as a whole.
    #[test]
    fn the_largest_route_is_less_than_what_may_be_written_of_one() {
        let text = |n: usize| format!("{n:03}{}", "x".repeat(bounds::TEXT - 3));
        let path = |n: usize| format!("/{n:03}{}", "p".repeat(bounds::PATH - 30));
        let url = |n| format!("http://127.0.0.1:8001{}", path(n));
        let limit = |n| Limit {
            name: format!("l{n}{}", "x".repeat(60)),
            amount: 1_000_000_000,
            period: "minute".into(),
            burst: Some(1_000_000_000),
            counts: "each".into(),
            fallback: "local_share".into(),
            ..Limit::default()
        };
        let route = Route {
            route_id: "r".repeat(63),
            name: "\u{1d11e}".repeat(bounds::TEXT),
            path_prefix: path(0),
            methods: (0..bounds::METHODS).map(|n| "M".repeat(n + 1)).collect(),
            targets: (0..bounds::TARGETS)
                .map(|n| Target { url: url(n), weight: Some(1), timeout: Some(1.0) })
                .collect(),
            required_permissions: (0..bounds::PERMISSIONS).map(text).collect(),
            limits: (0..bounds::LIMITS).map(limit).collect(),
            rewrite: path(0),
            recording: Some(Recording {
                redact: (0..bounds::REDACTED)
                    .map(|n| format!("$.r{n}{}", "x".repeat(bounds::TEXT - 5)))
                    .collect(),
                request_body_bytes: 1,
                ..Recording::default()
            }),
            ..Route::default()
        };
        model::Route::parse(&route).expect("as large as a route may be");
        let bytes = route.encoded_len() as u64;
        assert!(bytes <= writable(Size::MOST_OF_ONE), "{bytes}");
    }

    #[test]
    fn what_is_beyond_is_told() {
        let most = Size { entities: 10, bytes: 100 };
        for (entities, bytes, told) in [
            (10, 100, None),
            (11, 1, Some(("objects", 11, 10))),
            (1, 101, Some(("bytes", 101, 100))),
        ] {
            assert_eq!(Size { entities, bytes }.beyond(most), told);
        }
        assert_eq!(most.writable(), Size { entities: 8, bytes: 80 });
    }
}
