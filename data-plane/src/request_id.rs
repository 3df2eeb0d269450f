//! The id of a request: the client's own, or a new one.

use smallvec::SmallVec;

/// What a request is known by, on its way and in every log: at most 64 of `[A-Za-z0-9-]`.
#[derive(Clone)]
pub(crate) struct RequestId(SmallVec<[u8; 40]>);

impl RequestId {
    /// An id that is known to be one.
    pub(crate) fn new(text: &[u8]) -> Self {
        Self(SmallVec::from_slice(text))
    }

    /// The text of it.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
