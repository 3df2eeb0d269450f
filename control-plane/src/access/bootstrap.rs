//! The first owner token: there are no default credentials, so somebody must be handed one.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use fastgate::secret::{Kind, Secret};
use thiserror::Error;

use crate::{
    domain::{Role, Token},
    store::{Store, StoreError},
};

/// How long another replica that has written the file may take to store what is in it.
const ANOTHERS: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why the first owner token could not be handed out.
#[derive(Debug, Error)]
pub(crate) enum BootstrapError {
    #[error(
        "--bootstrap-token-file: {} exists, and no owner token does: remove the file or name another",
        .0.display()
    )]
    Occupied(PathBuf),
    #[error("--bootstrap-token-file: can't write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the operating system gives no random bytes")]
    Random(#[from] getrandom::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether somebody can sign in as owner. One whose token has expired can't.
pub(crate) async fn has_owner(store: &dyn Store) -> Result<bool, BootstrapError> {
    let now = SystemTime::now();
    let is_owner = |token: &Token| token.role == Role::Owner && token.expires_at > now;
    Ok(store.tokens().await?.iter().any(is_owner))
}

/// While nobody can sign in as owner, makes one and writes its token to `path`, for its owner's eyes only.
/// Says whether it did.
pub(crate) async fn write_first_owner(
    store: &dyn Store,
    path: &Path,
) -> Result<bool, BootstrapError> {
    if has_owner(store).await? {
        return Ok(false);
    }
    let secret = Secret::generate(Kind::AdminToken)?;
    let now = SystemTime::now();
    let token = Token {
        token_id: format!("tok-{}", uuid::Uuid::now_v7().simple()),
        name: "bootstrap".into(),
        role: Role::Owner,
        hash: secret.hash(),
        created_at: now,
        expires_at: now + Token::LIFETIME,
    };
    // The file comes first: a token nobody can read would lock everybody out.
    match write_new(path, &secret) {
        Err(BootstrapError::Occupied(path)) => {
            return is_anothers(store, path).await.map(|()| false);
        }
        written => written?,
    }
    let created = store.create_first_owner(&token).await;
    if !matches!(created, Ok(true)) {
        // Another replica was faster, or nothing was stored: this token opens nothing.
        fs::remove_file(path)
            .map_err(|source| BootstrapError::Write { path: path.into(), source })?;
    }
    Ok(created?)
}

/// Finds out whose token is in the file: another replica's that starts just now, or one that has ended,
/// for which nodes are not to go without a control plane.
async fn is_anothers(store: &dyn Store, path: PathBuf) -> Result<(), BootstrapError> {
    let asked = tokio::time::Instant::now();
    while !has_owner(store).await? {
        if asked.elapsed() < ANOTHERS {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        if store.tokens().await?.is_empty() {
            return Err(BootstrapError::Occupied(path));
        }
        let file = path.display();
        tracing::error!(%file, "nobody can sign in as owner: remove the file and start again, for another token");
        break;
    }
    Ok(())
}

fn write_new(path: &Path, secret: &Secret) -> Result<(), BootstrapError> {
    let fault = |source| BootstrapError::Write { path: path.into(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(
        |source| match source.kind() {
            io::ErrorKind::AlreadyExists => BootstrapError::Occupied(path.into()),
            _ => fault(source),
        },
    )?;
    writeln!(file, "{}", secret.expose()).map_err(fault)?;
    file.sync_all().map_err(fault)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::tests::samples::scratch;

    fn owner(expires_at: SystemTime) -> Token {
        let secret = Secret::generate(Kind::AdminToken).expect("random bytes");
        Token {
            token_id: "tok-1".into(),
            name: "bootstrap".into(),
            role: Role::Owner,
            hash: secret.hash(),
            created_at: SystemTime::now(),
            expires_at,
        }
    }

    #[tokio::test]
    async fn a_file_that_is_there_is_another_replicas_or_has_had_its_time() {
        let (store, dir) = scratch().await;
        let path = dir.path().join("token");
        fs::write(&path, "fga_of_another\n").expect("written");
        let refused = write_first_owner(&*store, &path).await;
        assert!(matches!(refused, Err(BootstrapError::Occupied(_))), "of another database");

        let soon = SystemTime::now() + Duration::from_millis(500);
        let slow = Arc::clone(&store);
        let another = async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            slow.create_first_owner(&owner(soon)).await.expect("stored")
        };
        let (written, stored) = tokio::join!(write_first_owner(&*store, &path), another);
        assert_eq!((written.expect("starts"), stored), (false, true), "another one's");
        while has_owner(&*store).await.expect("reads") {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        assert!(!write_first_owner(&*store, &path).await.expect("starts"), "it has ended");
        assert_eq!(fs::read_to_string(&path).expect("left alone"), "fga_of_another\n");
    }
}
