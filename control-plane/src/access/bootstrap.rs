//! The first owner token: there are no default credentials, so somebody must be handed one.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use fastgate::secret::{Kind, Secret};
use thiserror::Error;

use crate::{
    domain::{Role, Token},
    store::{Store, StoreError},
};

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
    write_new(path, &secret)?;
    let created = store.create_first_owner(&token).await;
    if !matches!(created, Ok(true)) {
        // Another replica was faster, or nothing was stored: this token opens nothing.
        fs::remove_file(path)
            .map_err(|source| BootstrapError::Write { path: path.into(), source })?;
    }
    Ok(created?)
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
