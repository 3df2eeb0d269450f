//! A map that is cheap to copy and change.

use foldhash::fast::RandomState;
use imbl::{GenericHashMap, shared_ptr::DefaultSharedPtr};

/// A map whose clones share what they do not change.
pub(crate) type Persistent<K, V> = GenericHashMap<K, V, RandomState, DefaultSharedPtr>;
