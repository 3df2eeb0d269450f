//! FastGate.
