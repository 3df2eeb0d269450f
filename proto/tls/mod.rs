//! What a server shows over TLS, and what a client trusts: files in PEM, read by whoever has them, and
//! checked here.
//!
//! ```text
//! files --read by a plane--> Contents -> CertificateFiles::parse -> Certificates (in use, or untold faults)
//! ```
//!
//! The cryptography is ring's everywhere.

mod authorities;
mod certificates;
mod files;
#[cfg(test)]
mod tests;

pub use self::{
    authorities::authorities,
    certificates::{Certificates, Look},
    files::{CertificateFiles, Contents},
};
