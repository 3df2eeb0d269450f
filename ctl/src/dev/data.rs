//! The data folder: everything of a run that the next one goes on with.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    context::{Surroundings, read_token, write_private},
    error::{DevError, Error},
};

/// A data folder, held by this process alone.
pub(super) struct DataDir {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
}

/// The key of the demo, in clear: only `fgctl dev` keeps one.
#[derive(Clone)]
pub(super) struct DemoKey {
    pub(super) key_id: String,
    pub(super) value: SecretString,
}

#[derive(Serialize, Deserialize)]
struct DemoKeyFile {
    key_id: String,
    key_value: String,
}

impl DataDir {
    /// Opens the folder given, else that of the user; makes it if need be.
    pub(super) fn open(given: Option<PathBuf>, around: &Surroundings) -> Result<Self, DevError> {
        let of_user = || around.data_home.as_ref().map(|home| home.join("fastgate-dev"));
        let path = given.or_else(of_user).ok_or(DevError::NoDataDir)?;
        let fault = |source| DevError::DataDir { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(fault)?;
        let path = fs::canonicalize(&path).map_err(fault)?;
        let lock = File::create(path.join("lock")).map_err(fault)?;
        lock.try_lock().map_err(|refused| match refused {
            TryLockError::WouldBlock => DevError::InUse(path.clone()),
            TryLockError::Error(source) => fault(source),
        })?;
        let data = Self { path: path.clone(), _lock: lock };
        data.forget_secrets_of_another_database().map_err(fault)?;
        Ok(data)
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the control plane keeps everything.
    pub(super) fn database_url(&self) -> SecretString {
        // The store takes what follows the scheme as a path, not as a URL: nothing is escaped.
        format!("sqlite:{}", self.database().display()).into()
    }

    /// Where the control plane writes the first owner's token.
    pub(super) fn token_file(&self) -> PathBuf {
        self.path.join("owner-token")
    }

    /// Where the node keeps its last good snapshot.
    pub(super) fn node_state(&self) -> PathBuf {
        self.path.join("node")
    }

    /// The first owner's token.
    pub(super) fn token(&self) -> Result<SecretString, Error> {
        read_token(&self.token_file())
    }

    /// The demo key of an earlier run; `None` where there is none that can be read.
    pub(super) fn demo_key(&self) -> Option<DemoKey> {
        let text = fs::read_to_string(self.demo_key_file()).ok()?;
        let read: DemoKeyFile = serde_json::from_str(&text).ok()?;
        Some(DemoKey { key_id: read.key_id, value: read.key_value.into() })
    }

    /// Keeps the demo key for the next run.
    pub(super) fn keep_demo_key(&self, key: &DemoKey) -> Result<(), Error> {
        let key_value = key.value.expose_secret().to_owned();
        let file = DemoKeyFile { key_id: key.key_id.clone(), key_value };
        let text = serde_json::to_string(&file).map_err(|fault| Error::Show(fault.to_string()))?;
        write_private(&self.demo_key_file(), text.as_bytes())
    }

    fn database(&self) -> PathBuf {
        self.path.join("control-plane.db")
    }

    fn demo_key_file(&self) -> PathBuf {
        self.path.join("demo-key.json")
    }

    /// Without its database a token or key opens nothing, and a token file in the way would keep
    /// the control plane from handing out a new one.
    fn forget_secrets_of_another_database(&self) -> io::Result<()> {
        if self.database().exists() {
            return Ok(());
        }
        for stale in [self.token_file(), self.demo_key_file()] {
            match fs::remove_file(stale) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn nowhere() -> Surroundings {
        Surroundings { token: None, config_home: None, data_home: None }
    }

    #[test]
    fn a_folder_serves_one_process_and_keeps_the_demo_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a b?%");
        let data = DataDir::open(Some(path.clone()), &nowhere()).expect("opened");
        assert!(data.database_url().expose_secret().ends_with("/a b?%/control-plane.db"));
        let again = DataDir::open(Some(path.clone()), &nowhere());
        assert!(matches!(again, Err(DevError::InUse(_))));

        fs::write(data.database(), "").expect("written");
        let key = DemoKey { key_id: "key-1".into(), value: "fg_x".to_owned().into() };
        data.keep_demo_key(&key).expect("kept");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&data.demo_key_file()), mode(data.path())), (0o600, 0o700));
        drop(data);
        let data = DataDir::open(Some(path.clone()), &nowhere()).expect("opened");
        assert_eq!(data.demo_key().map(|key| key.key_id), Some("key-1".into()));

        fs::remove_file(data.database()).expect("removed");
        drop(data);
        let data = DataDir::open(Some(path), &nowhere()).expect("opened");
        assert!(data.demo_key().is_none());
    }

    #[test]
    fn without_a_home_a_folder_must_be_given() {
        assert!(matches!(DataDir::open(None, &nowhere()), Err(DevError::NoDataDir)));
    }
}
