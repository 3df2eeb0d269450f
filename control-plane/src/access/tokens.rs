//! Admin tokens in memory, so that a call costs no query.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use fastgate::secret::SecretHash;

use crate::{
    domain::Token,
    store::{Store, StoreError},
};

/// How long a token revoked on another replica may still be used here.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// All tokens as they were a moment ago.
pub(super) struct Tokens {
    store: Arc<dyn Store>,
    /// `None` until the first call, and after a change made here.
    held: RwLock<Option<Held>>,
    /// Held by whoever reads the store anew, so that many calls cause one query.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Held {
    read_at: Instant,
    by_hash: Arc<HashMap<SecretHash, Token>>,
}

impl Tokens {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, held: RwLock::new(None), reading: tokio::sync::Mutex::new(()) }
    }

    /// The token with this hash, unless it has expired.
    pub(super) async fn find(&self, hash: &SecretHash) -> Result<Option<Token>, StoreError> {
        let tokens = match self.fresh() {
            Some(tokens) => tokens,
            None => self.read().await?,
        };
        Ok(tokens.get(hash).filter(|token| token.expires_at > SystemTime::now()).cloned())
    }

    /// Reads the store anew at the next call.
    pub(super) fn forget(&self) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn fresh(&self) -> Option<Arc<HashMap<SecretHash, Token>>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let held = held.as_ref().filter(|held| held.read_at.elapsed() < FRESH_FOR)?;
        Some(Arc::clone(&held.by_hash))
    }

    async fn read(&self) -> Result<Arc<HashMap<SecretHash, Token>>, StoreError> {
        let _alone = self.reading.lock().await;
        if let Some(tokens) = self.fresh() {
            return Ok(tokens);
        }
        // Taken before the query: what is committed while it runs counts as not seen.
        let read_at = Instant::now();
        let tokens = self.store.tokens().await?;
        let by_hash: HashMap<_, _> = tokens.into_iter().map(|token| (token.hash, token)).collect();
        let by_hash = Arc::new(by_hash);
        let held = Held { read_at, by_hash: Arc::clone(&by_hash) };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(by_hash)
    }
}
