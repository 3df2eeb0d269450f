//! Commands against a small control plane of their own.
