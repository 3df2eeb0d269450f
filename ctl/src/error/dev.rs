//! What can go wrong with `fgctl dev`.

use std::{io, path::PathBuf, time::Duration};

use fastgate::settings::Mistakes;
use thiserror::Error;

/// Why `fgctl dev` can't go on.
#[derive(Debug, Error)]
pub(crate) enum DevError {
    /// What is to be logged can't be told.
    #[error("{0}")]
    Log(Mistakes),
    /// There is no place to keep things.
    #[error("there is no home folder to keep data in: give --data-dir")]
    NoDataDir,
    /// The data folder can't be used.
    #[error("can't use the data folder {}: {source}: give another with --data-dir", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another `fgctl dev` holds the data folder.
    #[error("another fgctl dev uses {}: end it, or give --data-dir", .0.display())]
    InUse(PathBuf),
    /// The control plane can't start.
    #[error("the control plane can't start: {0}")]
    ControlPlane(#[from] fastgate_control_plane::BuildError),
    /// The node can't start.
    #[error("the node can't start: {0}")]
    Node(#[from] fastgate_data_plane::BuildError),
    /// A plane ended by itself.
    #[error("{0} has ended by itself: its log says why")]
    Ended(&'static str),
    /// The node did not become ready.
    #[error("the node is not ready after {} s: {last}", within.as_secs())]
    NotReady {
        /// The time it had.
        within: Duration,
        /// What came last.
        last: String,
    },
    /// Sockets, threads or signals of this process.
    #[error("can't start: {0}")]
    System(#[from] io::Error),
}

impl DevError {
    /// What to do about it, where its text does not say.
    pub(crate) fn mend(&self) -> Option<&'static str> {
        use fastgate_control_plane::BuildError as ControlPlaneFault;
        use fastgate_data_plane::BuildError as NodeFault;
        match self {
            Self::ControlPlane(ControlPlaneFault::Bind { .. }) => {
                Some("choose another port with --admin-port; 0 picks a free one")
            }
            Self::Node(NodeFault::Bind { .. }) => {
                Some("choose another port with --proxy-port; 0 picks a free one")
            }
            _ => None,
        }
    }
}
