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

/// How long a token made on another replica may be unknown here; how often somebody who tries
/// tokens out makes the store be read.
const UNKNOWN_FOR: Duration = Duration::from_millis(50);

/// How long the store may take to list them.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same where those of before will do if the store is away: whoever calls waits for the store once more.
const HURRY: Duration = Duration::from_millis(250);

/// How long tokens may be used as they were while the store is away. Nobody could revoke one there
/// either, unless only this replica is cut off from it.
const KEPT_FOR: Duration = Duration::from_secs(5 * 60);

/// All tokens as they were a moment ago.
pub(super) struct Tokens {
    store: Arc<dyn Store>,
    /// `None` until the first call, and after a change made here.
    held: RwLock<Option<Held>>,
    /// Held by whoever reads the store anew, so that many calls cause one query.
    reading: tokio::sync::Mutex<Option<Failed>>,
}

#[derive(Clone)]
struct Held {
    read_at: Instant,
    by_hash: Arc<ByHash>,
}

type ByHash = HashMap<SecretHash, Token>;

/// Tokens as far as they are known.
struct Known {
    by_hash: Arc<ByHash>,
    /// Why they are older than was asked for, if they are.
    is_old: Option<Arc<sqlx::Error>>,
}

/// The last read that came to nothing, for all who waited for it.
struct Failed {
    at: Instant,
    why: Arc<sqlx::Error>,
}

impl Tokens {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, held: RwLock::new(None), reading: tokio::sync::Mutex::default() }
    }

    /// The token with this hash, unless it has expired.
    pub(super) async fn find(&self, hash: &SecretHash) -> Result<Option<Token>, StoreError> {
        let mut known = self.no_older_than(FRESH_FOR).await?;
        if !known.by_hash.contains_key(hash) {
            known = self.no_older_than(UNKNOWN_FOR).await?;
        }
        match (known.by_hash.get(hash), known.is_old) {
            // It may have been made since.
            (None, Some(why)) => Err(StoreError::Unavailable(why)),
            (found, _) => Ok(found.filter(|token| token.expires_at > SystemTime::now()).cloned()),
        }
    }

    /// Reads the store anew at the next call.
    pub(super) fn forget(&self) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn no_older_than(&self, age: Duration) -> Result<Known, StoreError> {
        match self.held_for(age) {
            Some(by_hash) => Ok(Known { by_hash, is_old: None }),
            None => self.read(age).await,
        }
    }

    /// What is known while the store is away.
    fn known_before(&self, why: &Arc<sqlx::Error>) -> Result<Known, StoreError> {
        let is_old = Some(Arc::clone(why));
        let known = self.held_for(KEPT_FOR).map(|by_hash| Known { by_hash, is_old });
        known.ok_or_else(|| StoreError::Unavailable(Arc::clone(why)))
    }

    fn held_for(&self, age: Duration) -> Option<Arc<ByHash>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let held = held.as_ref().filter(|held| held.read_at.elapsed() < age)?;
        Some(Arc::clone(&held.by_hash))
    }

    async fn read(&self, age: Duration) -> Result<Known, StoreError> {
        let asked_at = Instant::now();
        let mut last = self.reading.lock().await;
        if let Some(by_hash) = self.held_for(age) {
            return Ok(Known { by_hash, is_old: None });
        }
        // Each trying again in turn would make the last one wait for all before it; and with tokens
        // at hand a call need not wait at all.
        if let Some(failed) = last.as_ref().filter(|failed| {
            failed.at >= asked_at
                || (failed.at.elapsed() < FRESH_FOR && self.held_for(KEPT_FOR).is_some())
        }) {
            return self.known_before(&failed.why);
        }
        // Taken before the query: what is committed while it runs counts as not seen.
        let read_at = Instant::now();
        let patience = if self.held_for(KEPT_FOR).is_some() { HURRY } else { PATIENCE };
        let read = tokio::time::timeout(patience, self.store.tokens()).await;
        let tokens = match read.unwrap_or_else(|_| Err(StoreError::silent())) {
            Err(StoreError::Unavailable(why)) => {
                let known = self.known_before(&why);
                *last = Some(Failed { at: Instant::now(), why });
                return known;
            }
            read => read?,
        };
        let by_hash: ByHash = tokens.into_iter().map(|token| (token.hash, token)).collect();
        let by_hash = Arc::new(by_hash);
        let held = Held { read_at, by_hash: Arc::clone(&by_hash) };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(Known { by_hash, is_old: None })
    }
}

#[cfg(test)]
mod tests {
    use fastgate::secret::{Kind, Secret};

    use super::*;
    use crate::{
        domain::{Actor, Role},
        store::tests::samples::scratch,
    };

    #[tokio::test]
    async fn a_token_made_on_another_replica_is_known_almost_at_once() {
        let (store, _dir) = scratch().await;
        let tokens = Tokens::new(Arc::clone(&store));
        let secret = Secret::generate(Kind::AdminToken).expect("random bytes");
        assert!(tokens.find(&secret.hash()).await.expect("reads").is_none());
        let now = SystemTime::now();
        let token = Token {
            token_id: "token-1".into(),
            name: "new".into(),
            role: Role::Viewer,
            hash: secret.hash(),
            created_at: now,
            expires_at: now + Duration::from_secs(60),
        };
        let actor = Actor { token_id: "token-0".into() };
        store.create_token(&token, &actor).await.expect("creates");
        tokio::time::sleep(UNKNOWN_FOR).await;
        assert!(tokens.find(&secret.hash()).await.expect("reads").is_some());
    }
}
