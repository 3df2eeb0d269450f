//! The options of `fgctl explain`.

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use clap::Args;
use secrecy::SecretString;

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The method, such as GET
    pub(crate) method: String,
    /// The path, with its query or without, or a whole http:// URL
    #[arg(value_name = "PATH|URL")]
    pub(crate) target: String,
    /// A header line, such as 'X-Tenant: a'; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<HeaderArg>,
    /// A file with the secret of an API key, which is sent as X-API-Key
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// As if a secret of this key were sent, which need not be known
    #[arg(long, value_name = "KEY_ID", conflicts_with = "key_file")]
    pub(crate) key_id: Option<String>,
    /// The node to ask [default: one that is connected to this control plane]
    #[arg(long, value_name = "NODE_ID")]
    pub(crate) node: Option<String>,
    /// The address the request comes from [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<IpAddr>,
}

/// A header line. Its value may be a secret.
#[derive(Clone, Debug)]
pub(crate) struct HeaderArg {
    pub(crate) name: String,
    pub(crate) value: SecretString,
}

impl FromStr for HeaderArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("write NAME: VALUE")?;
        if name.is_empty() || name.trim() != name {
            return Err("write NAME: VALUE, with nothing before the name or the colon".into());
        }
        Ok(Self { name: name.to_owned(), value: value.trim().into() })
    }
}
