//! The options of `fgctl doctor`.

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Every environment
    #[arg(short, long)]
    pub(crate) all: bool,
}
