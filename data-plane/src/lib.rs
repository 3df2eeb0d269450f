//! The data plane: a node that proxies the traffic of one environment.

mod admission;
mod audit;
mod auth;
mod backoff;
mod compile;
mod connection;
mod dial;
mod error;
mod exchange;
mod forwarding;
mod framing;
mod gateway;
mod identity;
mod limits;
mod metrics;
mod network;
mod ops;
mod random;
mod request_line;
mod respond;
mod route;
mod server;
mod settings;
mod shared;
mod snapshot;
mod socket;
mod state_dir;
mod sync;
mod upstream;
mod watch;
mod worker;

pub use network::Network;
pub use server::{Addresses, BuildError, RunError, Server};
pub use settings::{Settings, SettingsError};
pub use state_dir::StateDirError;
