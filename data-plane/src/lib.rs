//! The data plane: a node that proxies the traffic of one environment.

mod audit;
mod compile;
mod identity;
mod limits;
mod route;
mod server;
mod settings;
mod snapshot;
mod state_dir;
mod sync;
mod upstream;

pub use server::{Addresses, BuildError, RunError, Server};
pub use settings::{Network, Settings};
