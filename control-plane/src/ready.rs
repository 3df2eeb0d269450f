//! Whether a control plane should be sent work: its database answers, and it has followed it lately.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{feed::Feed, store::Store};

/// How long the database may take to answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(2);

/// How old what nodes are sent may be: it is looked for every second.
const FRESH_FOR: Duration = Duration::from_secs(5);

/// Finds it out.
#[derive(Clone)]
pub(crate) struct Readiness {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) feed: Feed,
}

/// What was found.
pub(crate) struct Found {
    /// How long the database took to answer; `None`: it did not.
    pub(crate) database: Option<Duration>,
    /// Why it is not ready; none: it is.
    pub(crate) reasons: Vec<String>,
}

impl Readiness {
    /// Asks the database and the feed.
    pub(crate) async fn check(&self) -> Found {
        let asked_at = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, self.store.takes_writes()).await;
        let mut reasons = Vec::new();
        let database = match answer {
            Ok(Ok(takes_writes)) => {
                if !takes_writes {
                    reasons.push("the database takes no writes: it is set to read only".to_owned());
                }
                Some(asked_at.elapsed())
            }
            Ok(Err(_)) | Err(_) => {
                reasons.push("the database does not answer".to_owned());
                None
            }
        };
        reasons.extend(lag(self.feed.caught_up(), Instant::now()));
        Found { database, reasons }
    }
}

/// What is to be said of a feed that last had everything at some time.
fn lag(caught_up: Option<Instant>, now: Instant) -> Option<String> {
    let Some(at) = caught_up else {
        return Some("the database has not been read through yet".to_owned());
    };
    let age = now.saturating_duration_since(at);
    (age > FRESH_FOR)
        .then(|| format!("what is sent to nodes is {} seconds behind the database", age.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_for_a_few_seconds_is_let_pass() {
        let now = Instant::now() + Duration::from_secs(60);
        let ago = |seconds| lag(now.checked_sub(Duration::from_secs(seconds)), now);
        assert_eq!(ago(0), None);
        assert_eq!(ago(5), None);
        let late = "what is sent to nodes is 7 seconds behind the database";
        assert_eq!(ago(7).as_deref(), Some(late));
        let never = "the database has not been read through yet";
        assert_eq!(lag(None, now).as_deref(), Some(never));
    }
}
