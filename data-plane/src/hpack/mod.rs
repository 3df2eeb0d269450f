//! HPACK (RFC 7541): how HTTP/2 writes header lines, so that one that was sent before takes a byte.
//!
//! Both sides of a connection keep the lines that were sent last in a table, and refer to them by
//! number. Whoever loses count reads other lines than were meant, so whatever is not understood
//! ends the connection, and a header block that nobody wants is still followed to its end.

#[cfg(any(test, feature = "bench"))]
pub(crate) mod bench;
mod decoder;
mod encoder;
mod fixed;
mod huffman;
mod name;
mod policy;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use decoder::{Decoder, Placed, Shown};
pub(crate) use encoder::Encoder;
pub(crate) use name::Name;

/// The bytes a table may count: what both sides begin with, and we never ask for more
/// (RFC 9113 section 6.5.2).
const MAX_TABLE: usize = 4096;

/// Why a header block can't be understood. The tables of both sides differ from then on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    /// It ends within a field.
    Cut,
    /// It is made so that following it takes far more than reading it.
    Excess,
    /// Text that is not what a Huffman encoder writes.
    Huffman,
    /// There is no such line.
    Index,
    /// A number beyond all reason, or written in more bytes than any such takes.
    Integer,
    /// The table is to become larger than we allow, or is resized at the wrong place.
    TableSize,
}
