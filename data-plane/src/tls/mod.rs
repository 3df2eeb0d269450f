//! TLS towards clients, by rustls. How it is spoken, and what is wrong with files, is in `fastgate::tls`.
//!
//! ```text
//! files -> Certificates -> ServerConfig -> TlsStream, one for each connection
//!          read anew every few seconds
//! ```

mod certificates;
mod stream;

pub(crate) use self::{certificates::Certificates, stream::TlsStream};

/// The name of HTTP/2 in ALPN (RFC 9113 section 3.2).
pub(crate) const HTTP2: &[u8] = b"h2";

/// The name of HTTP/1.1 in ALPN (RFC 7301 section 6).
pub(crate) const HTTP11: &[u8] = b"http/1.1";
