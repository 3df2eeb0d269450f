//! `fgctl dev`.

use thiserror::Error;

use crate::{cli::DevArgs, context::Surroundings, output::Output};

/// Why `fgctl dev` can't go on.
#[derive(Debug, Error)]
pub(crate) enum DevError {
    /// Not there yet.
    #[error("fgctl dev is not built yet")]
    Missing,
}

pub(crate) fn run(
    args: DevArgs,
    around: &Surroundings,
    output: &mut Output<'_>,
) -> Result<(), DevError> {
    let _ = (
        args.data_dir,
        args.ready_file,
        args.proxy_port,
        args.admin_port,
        &around.data_home,
        output,
    );
    Err(DevError::Missing)
}
