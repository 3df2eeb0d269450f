//! What a worker has at hand of the buckets its requests count in, found by their ids.
//!
//! A place is made once, with the bucket's name, and serves every further request of the same key
//! or address: finding it takes one hash and no allocation. Only a request that passed
//! authentication gets here, so that unknown keys never have one.

use std::{
    cell::{Cell, RefCell},
    hash::BuildHasher as _,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
};

use fastgate::model::{Id, Measure};
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{
    buckets::{Class, Hold},
    flight::Flight,
    gcra::Bucket,
    label::{Label, Labels, Ledger},
    lease::Lease,
    policy::{Policy, Scope, Subject},
};

/// The most places of keys a worker has. One takes about 500 bytes.
const KEY_PLACES: usize = 1 << 15;

/// The same of addresses, of which anyone can have many.
const ADDRESS_PLACES: usize = 1 << 12;

/// The places of a worker.
pub(super) struct Places {
    environment: Id,
    labels: Labels,
    hasher: RandomState,
    // Borrowed for a look or an insertion, which calls nothing that could borrow them again.
    keys: RefCell<Shelf>,
    addresses: RefCell<Shelf>,
}

/// What a worker has at hand of one bucket.
pub(super) struct Place {
    hash: u64,
    subject: Whose,
    scope: Which,
    /// What its limit is called.
    pub(super) label: Label,
    /// The limit as it was last, and its bucket: so it is seldom computed.
    limit: Cell<(Measure, Bucket)>,
    /// Its bucket in this process.
    pub(super) hold: Hold,
    // The two below are borrowed for single calls of each.
    pub(super) lease: RefCell<Lease>,
    /// The call to Redis under way for it, and which of the call's buckets it is.
    pub(super) flight: RefCell<Option<(Arc<Flight>, usize)>>,
    /// How many requests wait for that call.
    pub(super) waiting: Cell<u64>,
    /// Whether it is known to have tokens that may have to be given back.
    pub(super) is_listed: Cell<bool>,
    /// Whether it was used since places were last thrown out.
    is_used: Cell<bool>,
}

#[derive(PartialEq, Eq)]
enum Whose {
    Key(Box<str>),
    Address(IpAddr),
    Route(Id),
}

enum Which {
    Key,
    Plan(Id),
    Route(Id),
    OfRoute(Id, Id),
}

impl Places {
    /// None yet.
    pub(super) fn new(environment: Id, ledger: Arc<Ledger>) -> Self {
        Self {
            environment,
            labels: Labels::new(ledger),
            hasher: RandomState::default(),
            keys: RefCell::new(Shelf::new(KEY_PLACES)),
            addresses: RefCell::new(Shelf::new(ADDRESS_PLACES)),
        }
    }

    /// Where requests are counted for a policy, as its limit is now.
    pub(super) fn find(&self, policy: &Policy<'_>) -> Rc<Place> {
        let Policy { subject, scope, limit } = *policy;
        let shelf = match subject {
            Subject::Key(_) | Subject::Route(_) => &self.keys,
            Subject::Address(_) => &self.addresses,
        };
        let hash = self.hasher.hash_one((subject, scope));
        let mut shelf = shelf.borrow_mut();
        if let Some(place) = shelf.find(hash, subject, scope) {
            place.follow(limit.measure);
            return place;
        }
        let name = scope.bucket(&self.environment, subject);
        let place = Rc::new(Place::new(hash, name.into(), policy, self.labels.find(scope)));
        shelf.insert(place.clone());
        place
    }
}

impl Place {
    fn new(hash: u64, name: Arc<str>, policy: &Policy<'_>, label: Label) -> Self {
        let (class, subject) = match policy.subject {
            Subject::Key(id) => (Class::Key, Whose::Key(id.into())),
            Subject::Address(address) => (Class::Address, Whose::Address(address)),
            Subject::Route(id) => (Class::Key, Whose::Route(id.clone())),
        };
        let scope = match policy.scope {
            Scope::Key => Which::Key,
            Scope::Plan(limit) => Which::Plan(limit.clone()),
            Scope::Route(route) => Which::Route(route.clone()),
            Scope::OfRoute(route, limit) => Which::OfRoute(route.clone(), limit.clone()),
        };
        let measure = policy.limit.measure;
        let bucket = Bucket::new(measure);
        Self {
            hash,
            subject,
            scope,
            label,
            limit: Cell::new((measure, bucket)),
            hold: Hold::new(class, name),
            lease: RefCell::new(Lease::new(bucket)),
            flight: RefCell::default(),
            waiting: Cell::new(0),
            is_listed: Cell::new(false),
            is_used: Cell::new(true),
        }
    }

    /// The bucket as of the last request.
    pub(super) fn bucket(&self) -> Bucket {
        self.limit.get().1
    }

    /// The limit as of the last request.
    pub(super) fn measure(&self) -> Measure {
        self.limit.get().0
    }

    /// Whether one call can reach the buckets of both, which are in one slot of a Redis Cluster then.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.subject == other.subject
    }

    /// Follows a limit that was changed.
    fn follow(&self, measure: Measure) {
        if self.limit.get().0 != measure {
            self.limit.set((measure, Bucket::new(measure)));
        }
    }

    fn is_of(&self, subject: Subject<'_>, scope: Scope<'_>) -> bool {
        let is_same_subject = match (&self.subject, subject) {
            (Whose::Key(this), Subject::Key(other)) => **this == *other,
            (Whose::Address(this), Subject::Address(other)) => *this == other,
            (Whose::Route(this), Subject::Route(other)) => this == other,
            _ => false,
        };
        let is_same_scope = match (&self.scope, scope) {
            (Which::Key, Scope::Key) => true,
            (Which::Plan(this), Scope::Plan(other)) | (Which::Route(this), Scope::Route(other)) => {
                this == other
            }
            (Which::OfRoute(route, limit), Scope::OfRoute(other_route, other)) => {
                limit == other && route == other_route
            }
            _ => false,
        };
        is_same_subject && is_same_scope
    }

    /// Whether somebody waits for something that is kept here.
    fn is_waited_for(&self) -> bool {
        self.waiting.get() > 0 || self.flight.borrow().is_some()
    }
}

/// Places, at most a number of them.
struct Shelf {
    places: HashTable<Rc<Place>>,
    bound: usize,
}

impl Shelf {
    fn new(bound: usize) -> Self {
        Self { places: HashTable::new(), bound }
    }

    fn find(&self, hash: u64, subject: Subject<'_>, scope: Scope<'_>) -> Option<Rc<Place>> {
        let place = self.places.find(hash, |place| place.is_of(subject, scope))?;
        place.is_used.set(true);
        Some(place.clone())
    }

    fn insert(&mut self, place: Rc<Place>) {
        if self.places.len() >= self.bound {
            self.make_room();
        }
        self.places.insert_unique(place.hash, place, |place| place.hash);
    }

    /// Throws out what was not used since this was last done; if that is not much, all that nobody
    /// waits for. Tokens that are held there are lost, as if they had ended.
    fn make_room(&mut self) {
        self.places.retain(|place| place.is_waited_for() || place.is_used.replace(false));
        if self.places.len() > self.bound / 4 * 3 {
            self.places.retain(|place| place.is_waited_for());
        }
    }
}
