//! Who may call, by secret, and how often.

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use ahash::AHashMap;
use http::HeaderValue;

/// Nanoseconds.
const MINUTE: u64 = 60_000_000_000;

/// All clients, known before the first request. They are kept until the process ends, so that a
/// request can refer to one without counting.
pub(crate) struct Clients {
    by_secret: AHashMap<Box<[u8]>, &'static Client>,
}

/// Who a secret was issued to.
pub(crate) struct Client {
    pub(crate) source_path: HeaderValue,
    bucket: Bucket,
}

/// A full bucket admits a minute's requests at once; it fills in a minute.
struct Bucket {
    /// When it is full again, in nanoseconds of the gateway's clock.
    full_at: AtomicU64,
    /// How long one request takes to be filled up again.
    cost: u64,
}

impl Clients {
    /// Reads a file with a secret and a source path on each line.
    pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Self> {
        let cost = MINUTE / limit.max(1);
        let by_secret = fs::read_to_string(path)?
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(secret, source_path)| {
                let source_path = HeaderValue::from_str(source_path).map_err(io::Error::other)?;
                let bucket = Bucket { full_at: AtomicU64::new(0), cost };
                let client: &'static Client = Box::leak(Box::new(Client { source_path, bucket }));
                Ok((secret.as_bytes().into(), client))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { by_secret })
    }

    pub(crate) fn find(&self, secret: &[u8]) -> Option<&'static Client> {
        self.by_secret.get(secret).copied()
    }
}

impl Client {
    /// Whether one more request is within the limit; it is counted if so.
    pub(crate) fn admit(&self, now: u64) -> bool {
        let Bucket { full_at, cost } = &self.bucket;
        let count = |full: u64| {
            let full = full.max(now) + cost;
            (full - now <= MINUTE).then_some(full)
        };
        full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok()
    }
}
