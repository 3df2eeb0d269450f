//! TLS towards clients, by rustls with the cryptography of ring: versions 1.2 and 1.3, HTTP/2 and
//! HTTP/1.1 by ALPN, resumption by tickets that only this process can read, no early data.
//!
//! ```text
//! files -> Certificates -> ServerConfig -> TlsStream, one for each connection
//!          read anew every few seconds
//! ```

mod certificates;
mod files;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use self::{certificates::Certificates, stream::TlsStream};

/// The name of HTTP/2 in ALPN (RFC 9113 section 3.2).
pub(crate) const HTTP2: &[u8] = b"h2";

/// The name of HTTP/1.1 in ALPN (RFC 7301 section 6).
pub(crate) const HTTP11: &[u8] = b"http/1.1";
