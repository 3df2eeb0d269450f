//! Who events are passed on to: the control plane, and sinks, each at its own pace.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::window::Window;

/// An outlet, and what became of the events it was to get.
pub(super) struct Outlet {
    pub(super) kind: Kind,
    /// What is under way to it.
    pub(super) window: Window,
    /// Events of this boot that it has.
    pub(super) stored: AtomicU64,
    /// Events of earlier boots that wait for it.
    pub(super) left: AtomicU64,
    /// Events that a sink has taken, whatever boot they are of.
    pub(super) taken: AtomicU64,
    /// Events that a sink will never take.
    pub(super) refused: AtomicU64,
    /// Events of this boot that the disk could not give back when it was to get them.
    pub(super) damaged: AtomicU64,
    /// Tries that failed.
    pub(super) errors: AtomicU64,
    /// Whether the last try failed.
    pub(super) is_away: AtomicBool,
}

/// What an outlet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    ControlPlane,
    File,
    Nats,
    Otlp,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::ControlPlane, Self::File, Self::Nats, Self::Otlp];

    /// As metrics and the log call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control_plane",
            Self::File => "file",
            Self::Nats => "nats",
            Self::Otlp => "otlp",
        }
    }
}

impl Outlet {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            window: Window::default(),
            stored: AtomicU64::default(),
            left: AtomicU64::default(),
            taken: AtomicU64::default(),
            refused: AtomicU64::default(),
            damaged: AtomicU64::default(),
            errors: AtomicU64::default(),
            is_away: AtomicBool::default(),
        }
    }

    /// Counts events as stored there, of this boot or of an earlier one.
    pub(super) fn has_stored(&self, events: u64, is_of_this_boot: bool) {
        if is_of_this_boot {
            self.stored.fetch_add(events, Relaxed);
        } else {
            self.left.fetch_sub(events, Relaxed);
        }
    }
}
