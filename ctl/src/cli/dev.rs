//! The options of `fgctl dev`.

use std::path::PathBuf;

use clap::Args;

/// Options of `fgctl dev`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DevArgs {
    /// Keeps everything here, so that it survives a restart [default: $XDG_DATA_HOME/fastgate-dev,
    /// else ~/.local/share/fastgate-dev]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Writes proxy_url, admin_url, admin_token and api_key here as JSON (mode 0600) once all is up
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// The proxy's port on loopback; 0 picks one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub(crate) proxy_port: u16,
    /// The admin port on loopback; 0 picks one
    #[arg(long, value_name = "PORT", default_value_t = 9000)]
    pub(crate) admin_port: u16,
}
