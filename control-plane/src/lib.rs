//! The control plane: owns keys, routes and upstreams, and streams every change to the nodes.

mod access;
mod admin;
mod audit;
mod domain;
mod error;
mod feed;
mod gate;
mod health;
mod identity;
mod listen;
mod metrics;
mod nodes;
mod port;
mod ready;
mod rest;
mod rollout;
mod server;
mod settings;
mod store;
mod streams;
mod tls;

pub use admin::check_imported_key;
pub use identity::NodeCa;
pub use rest::{Shown, read_message, sorted_pairs};
pub use server::{Addresses, BuildError, Server};
pub use settings::{AdminTls, Settings, SettingsError};
pub use store::OpenError;
