//! What the errors of the databases mean to a caller.

use std::{sync::Arc, time::Duration};

use sqlx::error::DatabaseError;
use tokio::time::timeout;

use super::StoreError;

impl From<sqlx::Error> for StoreError {
    fn from(fault: sqlx::Error) -> Self {
        let may_pass = match &fault {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => true,
            sqlx::Error::Database(fault) => may_pass(fault.as_ref()),
            _ => false,
        };
        if may_pass { Self::Unavailable(Arc::new(fault)) } else { Self::Internal(Box::new(fault)) }
    }
}

impl StoreError {
    /// The fault of a database that was waited for in vain.
    pub(crate) fn silent() -> Self {
        Self::Unavailable(Arc::new(sqlx::Error::PoolTimedOut))
    }

    /// The fault of a search: one that Postgres cut off (query_canceled) would be again.
    pub(in crate::store) fn of_search(self) -> Self {
        match &self {
            Self::Unavailable(fault)
                if fault
                    .as_database_error()
                    .is_some_and(|fault| fault.code().as_deref() == Some("57014")) =>
            {
                Self::TooSlow
            }
            _ => self,
        }
    }
}

/// What the store says, if it says it in time: on a dead network it would be waited for until the system gives
/// up, and another server may have taken over long before.
///
/// # Errors
/// What the store says, or that it is away.
pub(crate) async fn within<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(patience, asked).await.unwrap_or_else(|_| Err(StoreError::silent()))
}

/// Whether a retry may help: Postgres by the class of the SQLSTATE (PostgreSQL manual, appendix
/// A), SQLite by its primary result code.
fn may_pass(fault: &dyn DatabaseError) -> bool {
    let Some(code) = fault.code() else { return false };
    // Among them: a password that was changed, a database that is restored just now.
    let postgres = ["08", "25006", "28", "3D000", "40", "53", "55P03", "57", "58"];
    let sqlite = ["5", "6", "10", "13", "14", "261", "517"];
    postgres.iter().any(|class| code.len() == 5 && code.starts_with(class))
        || sqlite.contains(&code.as_ref())
}
