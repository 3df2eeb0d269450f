//! From a database URL to a store whose schema is up to date.

use std::{borrow::Cow, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use thiserror::Error;

use super::{Store, postgres, sqlite};

/// Connects to `postgres://...` or opens `sqlite:PATH`, and brings the schema up to date.
///
/// # Errors
/// Why the database can't be used, without the URL's password.
pub(crate) async fn open(database_url: &SecretString) -> Result<Arc<dyn Store>, OpenError> {
    let url = database_url.expose_secret();
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        Ok(Arc::new(postgres::open(url).await?))
    } else if let Some(path) = url.strip_prefix("sqlite:") {
        Ok(Arc::new(sqlite::open(path.strip_prefix("//").unwrap_or(path)).await?))
    } else {
        Err(OpenError::Scheme)
    }
}

/// Why a database can't be used. Each says what to do about it.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Neither Postgres nor SQLite.
    #[error("the database URL must start with 'postgres://' or 'sqlite:'")]
    Scheme,
    /// Not a URL the driver understands. What is wrong is not told: it may quote the password.
    #[error(
        "the database URL can't be read: give one like 'postgres://user:password@host:5432/name', with '@', '/' and ':' of a password written as %40, %2F and %3A"
    )]
    Url,
    /// The URL asks for what this program can't do.
    #[error(
        "the database URL asks for TLS, which is not spoken to Postgres yet: take 'sslmode' out"
    )]
    Tls,
    /// The server was not there, or refused.
    #[error(
        "can't use the database at {place}: {reason}: is the server running, and are user, password and name right?"
    )]
    Connect {
        /// Host, port and name, or the path.
        place: String,
        /// What the driver said.
        reason: String,
    },
    /// The schema is of a version this program does not know.
    #[error(
        "the database at {place} was brought up to date by a newer version of this program: start that one"
    )]
    Newer {
        /// Host, port and name, or the path.
        place: String,
    },
    /// The schema could not be brought up to date.
    #[error(
        "can't bring the schema of the database at {place} up to date: {reason}: may its user create tables there?"
    )]
    Migrate {
        /// Host, port and name, or the path.
        place: String,
        /// What the driver said.
        reason: String,
    },
}

impl OpenError {
    /// Why the schema could not be brought up to date.
    pub(super) fn of_schema(place: String, fault: &MigrateError, reason: String) -> Self {
        match fault {
            MigrateError::VersionMissing(_) => Self::Newer { place },
            _ => Self::Migrate { place, reason },
        }
    }
}

/// The schema in the words of one database; `audit` is its own of the tables that grow.
pub(super) fn migrator(
    words: fn(&'static str) -> Cow<'static, str>,
    audit: &'static str,
) -> Migrator {
    let steps = steps(audit).map(|(version, description, sql)| {
        let sql = sqlx::AssertSqlSafe(words(sql).into_owned());
        Migration::new(
            version,
            description.into(),
            MigrationType::Simple,
            sqlx::SqlSafeStr::into_sql_str(sql),
            false,
        )
    });
    Migrator::with_migrations(steps.into())
}

fn steps(audit: &'static str) -> [(i64, &'static str, &'static str); 12] {
    [
        (1, "what the control plane keeps", include_str!("schema.sql")),
        (2, "the nodes of each replica", include_str!("nodes.sql")),
        (3, "plans, and which keys are on them", include_str!("plans.sql")),
        (4, "events as they are searched and ended", audit),
        (5, "what is stored of each boot of a node, and what was lost", include_str!("boots.sql")),
        (6, "requests added up", include_str!("rollups.sql")),
        (7, "what takes revisions back", include_str!("history.sql")),
        (8, "what routes ask to be recorded of events", include_str!("recorded.sql")),
        (9, "how much there is of keys and of config", include_str!("sizes.sql")),
        (10, "how changes reach nodes, and how far they are", include_str!("rollouts.sql")),
        (11, "how nodes join, and their certificates", include_str!("joining.sql")),
        (12, "which key a secret opens", include_str!("key_secrets.sql")),
    ]
}
