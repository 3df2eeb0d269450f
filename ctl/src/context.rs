//! Contexts: named control planes, kept in `$XDG_CONFIG_HOME/fgctl/config.yaml`.
//!
//! A context names a token's file and never holds the token itself. The file is written whole,
//! next to its place and then renamed, and only its owner may read it.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use fastgate::model::Id;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{cli::Global, error::Error};

const DEFAULT_ADDR: &str = "http://127.0.0.1:9000";
/// A token file is one line; what is larger is some other file.
const MAX_TOKEN_FILE: u64 = 4096;
const MAX_CONTEXTS_FILE: u64 = 1024 * 1024;

/// What the process was started with besides its command line.
pub(crate) struct Surroundings {
    /// The token of `FGCTL_TOKEN`.
    pub(crate) token: Option<SecretString>,
    /// Where settings of this user are.
    pub(crate) config_home: Option<PathBuf>,
    /// Where data of this user is.
    pub(crate) data_home: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        let folder = |variable, below_home: &str| {
            let set = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
            set.or_else(|| env::home_dir().map(|home| home.join(below_home)))
        };
        Self {
            token: env::var("FGCTL_TOKEN").ok().filter(|token| !token.is_empty()).map(Into::into),
            config_home: folder("XDG_CONFIG_HOME", ".config"),
            data_home: folder("XDG_DATA_HOME", ".local/share"),
        }
    }
}

/// Which control plane a command talks to, and how.
pub(crate) struct Connection {
    /// Where it is.
    pub(crate) addr: String,
    /// What opens it; `None`: nothing is sent.
    pub(crate) token: Option<SecretString>,
    /// What is trusted over TLS; `None`: what the system trusts.
    pub(crate) ca_file: Option<PathBuf>,
    /// The environment to work in.
    pub(crate) environment: String,
    /// Whether the command line or a variable named the environment.
    pub(crate) environment_is_explicit: bool,
}

impl Connection {
    /// Options first, then variables, then the context.
    pub(crate) fn resolve(global: &Global, around: &Surroundings) -> Result<Self, Error> {
        let context = Contexts::load(around)?.chosen(global)?;
        let addr = global.addr.clone();
        // A token goes only where its context says, never to an address from elsewhere; nor is that one
        // trusted for what the context's is.
        let (context_token, context_ca) = match (&addr, &context.addr) {
            (Some(given), Some(own)) if given != own => (None, None),
            (Some(_), None) => (None, None),
            _ => (context.token_file, context.ca_file),
        };
        let token = match (&global.token_file, &around.token, &context_token) {
            (Some(file), _, _) => Some(read_token(file)?),
            (None, Some(token), _) => Some(token.clone()),
            (None, None, Some(file)) => Some(read_token(file)?),
            (None, None, None) => None,
        };
        let environment = global.environment.clone();
        Ok(Self {
            addr: addr.or(context.addr).unwrap_or_else(|| DEFAULT_ADDR.into()),
            token,
            ca_file: global.ca_file.clone().or(context_ca),
            environment_is_explicit: environment.is_some(),
            environment: environment
                .or(context.environment)
                .unwrap_or_else(|| Id::DEFAULT_ENVIRONMENT.into()),
        })
    }
}

/// Every context of a user.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

/// One control plane.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) addr: Option<String>,
    /// The file that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// The file of the CA that signed its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The environment to work in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<String>,
}

impl Contexts {
    /// Reads them; none where there is no file.
    pub(crate) fn load(around: &Surroundings) -> Result<Self, Error> {
        let Some(path) = path_of(around) else {
            return Ok(Self::default());
        };
        let Some(text) = read_bounded(&path, MAX_CONTEXTS_FILE)? else {
            return Ok(Self::default());
        };
        serde_saphyr::from_str(&text).map_err(|fault| Error::Setting {
            what: path.display().to_string(),
            fault: fault.without_snippet().to_string(),
        })
    }

    /// Writes them.
    pub(crate) fn store(&self, around: &Surroundings) -> Result<(), Error> {
        let path = path_of(around).ok_or_else(|| Error::Setting {
            what: "contexts".into(),
            fault: "there is no home folder to keep them in: set XDG_CONFIG_HOME".into(),
        })?;
        let text = serde_saphyr::to_string(self).map_err(|fault| Error::Show(fault.to_string()))?;
        write_private(&path, text.as_bytes())
    }

    /// The contexts by name, and whether each is in use.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Context, bool)> {
        self.contexts
            .iter()
            .map(|(name, context)| (&**name, context, self.current.as_ref() == Some(name)))
    }

    /// Creates a context or changes the given fields of it; the first one is taken into use.
    pub(crate) fn set(&mut self, name: &str, given: Context) -> Result<(), Error> {
        Id::parse(name)
            .map_err(|fault| Error::Setting { what: format!("context '{name}'"), fault })?;
        let context = self.contexts.entry(name.into()).or_default();
        context.addr = given.addr.or_else(|| context.addr.take());
        context.token_file = given.token_file.or_else(|| context.token_file.take());
        context.ca_file = given.ca_file.or_else(|| context.ca_file.take());
        context.environment = given.environment.or_else(|| context.environment.take());
        self.current.get_or_insert_with(|| name.into());
        Ok(())
    }

    /// Takes a context into use.
    pub(crate) fn take_into_use(&mut self, name: &str) -> Result<(), Error> {
        self.find(name)?;
        self.current = Some(name.into());
        Ok(())
    }

    /// Deletes a context.
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), Error> {
        self.find(name)?;
        self.contexts.remove(name);
        self.current.take_if(|current| current == name);
        Ok(())
    }

    fn chosen(mut self, global: &Global) -> Result<Context, Error> {
        let Some(name) = global.context.as_ref().or(self.current.as_ref()).cloned() else {
            return Ok(Context::default());
        };
        self.find(&name)?;
        Ok(self.contexts.remove(&name).unwrap_or_default())
    }

    fn find(&self, name: &str) -> Result<&Context, Error> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
            let fault = if known.is_empty() {
                "there are no contexts: make one with fgctl context set".into()
            } else {
                format!("is unknown: take one of {}", known.join(", "))
            };
            Error::Setting { what: format!("context '{name}'"), fault }
        })
    }
}

/// Writes a file that only its owner may read: whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let beside = path.with_extension(format!("tmp{}", std::process::id()));
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| Error::File { action: "write", path: path.into(), source })
}

/// Reads the one line of a token's file.
pub(crate) fn read_token(path: &Path) -> Result<SecretString, Error> {
    read_secret(path, "token file", "the admin token")
}

/// Reads the one line of a file: `what` it is called, and the secret it holds.
pub(crate) fn read_secret(path: &Path, what: &str, secret: &str) -> Result<SecretString, Error> {
    let setting =
        |fault: String| Error::Setting { what: format!("{what} {}", path.display()), fault };
    let text = read_bounded(path, MAX_TOKEN_FILE)?;
    let text = text.ok_or_else(|| setting("does not exist".into()))?;
    let line = text.trim();
    if line.is_empty() {
        return Err(setting(format!("is empty: put {secret} into it")));
    }
    Ok(line.into())
}

fn path_of(around: &Surroundings) -> Option<PathBuf> {
    Some(around.config_home.as_ref()?.join("fgctl/config.yaml"))
}

/// The text of a file; `None` when there is no such file.
fn read_bounded(path: &Path, most: u64) -> Result<Option<String>, Error> {
    let fault = |source| Error::File { action: "read", path: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(fault(source)),
    };
    let mut text = String::new();
    // A pipe or a device has no size that could be asked for.
    file.take(most + 1).read_to_string(&mut text).map_err(fault)?;
    if text.len() as u64 > most {
        return Err(fault(io::Error::other(format!("it is larger than {most} bytes"))));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn around(folder: &tempfile::TempDir) -> Surroundings {
        Surroundings {
            token: None,
            config_home: Some(folder.path().join("config")),
            data_home: None,
        }
    }

    fn local(folder: &tempfile::TempDir) -> Context {
        let token_file = folder.path().join("token");
        fs::write(&token_file, "fga_context\n").expect("written");
        Context {
            addr: Some("http://127.0.0.1:9000".into()),
            token_file: Some(token_file),
            ca_file: Some("/etc/gate-ca.pem".into()),
            environment: Some("staging".into()),
        }
    }

    #[test]
    fn contexts_are_kept_for_their_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let around = around(&folder);
        let mut contexts = Contexts::load(&around).expect("none yet");
        contexts.set("local", local(&folder)).expect("set");
        contexts.set("other", Context::default()).expect("set");
        contexts.store(&around).expect("stored");

        assert_eq!(Contexts::load(&around).expect("loaded"), contexts);
        let path = path_of(&around).expect("a path");
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!fs::read_to_string(path).expect("text").contains("fga_"));

        contexts.take_into_use("other").expect("known");
        contexts.delete("other").expect("known");
        assert_eq!(contexts.current, None);
        let fault = contexts.take_into_use("other").expect_err("gone").to_string();
        assert_eq!(fault, "context 'other': is unknown: take one of local");
    }

    #[test]
    fn options_win_over_the_context() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut around = around(&folder);
        let mut contexts = Contexts::default();
        contexts.set("local", local(&folder)).expect("set");
        contexts.store(&around).expect("stored");

        let resolve = |global: &Global, around: &Surroundings| {
            let found = Connection::resolve(global, around).expect("resolved");
            let token = found.token.map(|token| token.expose_secret().to_owned());
            (found.addr, token.unwrap_or_default(), found.environment)
        };
        let expect = |addr: &str, token: &str, env: &str| (addr.into(), token.into(), env.into());
        let mut global = Global::default();
        let context = "http://127.0.0.1:9000";
        assert_eq!(resolve(&global, &around), expect(context, "fga_context", "staging"));

        global.environment = Some("default".into());
        around.token = Some("fga_variable".into());
        assert_eq!(resolve(&global, &around), expect(context, "fga_variable", "default"));

        around.token = None;
        let ca_file = |global: &Global, around: &Surroundings| {
            Connection::resolve(global, around).expect("resolved").ca_file
        };
        assert_eq!(ca_file(&global, &around), Some("/etc/gate-ca.pem".into()));
        global.addr = Some("http://elsewhere:9000".into());
        assert_eq!(ca_file(&global, &around), None, "it is the context's");
        global.ca_file = Some("own.pem".into());
        assert_eq!(ca_file(&global, &around), Some("own.pem".into()));
        assert_eq!(resolve(&global, &around), expect("http://elsewhere:9000", "", "default"));
    }

    #[test]
    fn a_fault_in_the_file_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let around = around(&folder);
        let path = path_of(&around).expect("a path");
        write_private(&path, b"contexts:\n  local:\n    adr: x\n").expect("written");
        let fault = Contexts::load(&around).expect_err("unknown field").to_string();
        assert!(fault.contains("config.yaml") && fault.contains("adr"), "{fault}");
        assert!(fault.contains("line 3"), "{fault}");
    }

    #[test]
    fn a_token_file_that_is_none_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        assert!(read_token(&path).expect_err("missing").to_string().contains("does not exist"));
        fs::write(&path, "\n").expect("written");
        assert!(read_token(&path).expect_err("empty").to_string().contains("is empty"));
        let endless = read_token(Path::new("/dev/zero")).expect_err("endless").to_string();
        assert!(endless.contains("larger than 4096 bytes"), "{endless}");
    }
}
