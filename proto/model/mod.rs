//! Keys, routes, upstreams, plans and settings in a form that can't be wrong.
//!
//! Wire messages become these types in one place ([`Route::parse`] and its like), by the control
//! plane when something is written or tried out and by a node before it takes a snapshot into
//! use. All faults of a message come back at once, each with its field and the mend. What needs
//! other objects or the time of day (does the upstream exist, is the expiry past) is not asked
//! here: a node must come to the same answer tomorrow.

mod check;
mod cost;
mod id;
mod json_path;
mod key;
mod key_view;
mod labels;
mod limit;
mod media_range;
mod permission;
mod plan;
mod quota;
mod rate;
mod recording;
mod rollout;
mod route;
mod settings;
mod size;
mod upstream;

pub use check::{Violation, Violations, text};
pub use cost::{Charge, Cost};
pub use id::Id;
pub use json_path::{JsonPath, Selector, Step};
pub use key::{Key, KeySecret, SourcePath};
pub use key_view::KeyView;
pub use labels::{Labels, fits as fits_label};
pub use limit::{Counts, Fallback, Limit, Measure, NamedLimit, Tokens, numbers_of};
pub use media_range::MediaRange;
pub use permission::{Permission, RequiredPermission, allows};
pub use plan::Plan;
pub use quota::{Calendar, Quota};
pub use rate::{Period, Rate, RateLimit};
pub use recording::{RecordedName, Recording, Share};
pub use rollout::{Member, Ring, RolloutPolicy};
pub use route::{Destination, HostMatch, PathMatch, Rewrite, Route};
pub use settings::Settings;
pub use size::{Size, writable};
pub use upstream::{Target, TargetUrl, Upstream};

/// What can be wrong with a value is bounded by what it may hold: the largest object of each kind.
pub mod bounds {
    /// Targets of one route or upstream.
    pub const TARGETS: usize = 64;
    /// Methods of one route.
    pub const METHODS: usize = 32;
    /// Permissions of one key or route.
    pub const PERMISSIONS: usize = 64;
    /// Characters of a name, a description, a source path or a permission.
    pub const TEXT: usize = 200;
    /// Bytes of a path, prefix, rewrite or target URL.
    pub const PATH: usize = 2048;
    /// Seconds of any timeout.
    pub const TIMEOUT_SECONDS: f64 = 3600.0;
    /// Further attempts of one request.
    pub const RETRIES: i32 = 10;
    /// Units of a rate, in its period and at once.
    pub const RATE: i64 = 1_000_000_000;
    /// Units of a quota.
    pub const QUOTA: i64 = 1_000_000_000_000;
    /// Limits of one plan or route, beside its `rate_limit`.
    pub const LIMITS: usize = 8;
    /// Headers recorded of one request, and as many of its answer.
    pub const RECORDED_HEADERS: usize = 32;
    /// Bytes recorded of one body.
    pub const RECORDED_BODY: usize = 65_536;
    /// Content types of bodies that are recorded.
    pub const BODY_TYPES: usize = 16;
    /// Paths of what is taken out of a body.
    pub const REDACTED: usize = 32;
    /// Labels of one object, node or ring.
    pub const LABELS: usize = 16;
    /// Bytes of the key of a label, and of its value.
    pub const LABEL: usize = 63;
    /// The weight of one target.
    pub const WEIGHT: i32 = 1_000_000;
    /// Rings of one rollout.
    pub const RINGS: usize = 16;
    /// Live secrets of one key.
    pub const SECRETS: usize = 2;
}
