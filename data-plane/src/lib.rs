//! The data plane: a node that proxies the traffic of one environment.

mod admission;
#[cfg(test)]
mod allocations;
mod audit;
mod auth;
mod backoff;
mod body;
mod body_reader;
mod buffers;
mod ca;
mod callers;
mod compile;
mod connection;
mod control_planes;
mod counters;
mod credentials;
mod date;
mod dial;
mod error;
mod exchange;
mod explain;
mod falls;
mod fatal;
mod forwarding;
mod framing;
mod gateway;
mod head;
mod hpack;
mod identity;
mod incoming;
mod keys;
mod limit_headers;
mod limits;
mod metrics;
mod network;
mod ops;
mod persistent;
mod private;
mod random;
mod record;
mod recorded;
mod reply;
mod request;
mod request_body;
mod respond;
mod route;
mod server;
mod settings;
mod shared;
#[cfg(test)]
mod simulation;
mod snapshot;
mod socket;
mod sync;
mod table;
mod target;
mod timers;
mod tls;
mod upstream;
mod watch;
mod worker;

/// What benchmarks call; of no use to anyone else.
#[cfg(any(test, feature = "bench"))]
#[doc(hidden)]
pub mod bench {
    #[cfg(feature = "bench")]
    pub use crate::audit::bench::Batches;
    pub use crate::{
        compile::bench::Routes,
        gateway::bench::RequestPath,
        hpack::bench::HeaderBlocks,
        limits::bench::LeaseHit,
        sync::bench::{Cold, Node},
    };
}

pub use audit::{
    FileSettings, FileTarget, NatsServer, NatsSettings, Onward, OtlpSettings, Store, WhenFull,
};
pub use limits::{RedisAddress, RedisAddressError, RedisSettings};
pub use network::Network;
pub use server::{Addresses, BuildError, RunError, Server};
pub use settings::{AuditSettings, Settings, SettingsError, TlsSettings};
pub use sync::StateDirError;
