//! The control plane: owns keys, routes and upstreams, and streams every change to the nodes.

mod domain;
mod store;
