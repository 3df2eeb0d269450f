//! Upstreams at run time: which target a request goes to, over which connection, and what
//! happens when that fails.

pub(crate) mod balance;

pub(crate) use balance::TargetSet;
