//! Things a worker keeps for limits, found by whose limit it is and which.
//!
//! Finding one takes one hash and no allocation. Only a request that passed authentication gets here,
//! so that unknown keys never have any.

use std::{
    cell::{Cell, RefCell},
    hash::BuildHasher as _,
    net::IpAddr,
    num::NonZeroU64,
    rc::Rc,
};

use fastgate::model::Id;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::policy::{Scope, Subject};

/// The most things a worker keeps for keys and routes.
const OF_KEYS: usize = 1 << 15;

/// The same for addresses, of which anyone can have many.
const OF_ADDRESSES: usize = 1 << 12;

/// What can be kept.
pub(super) trait Keep {
    /// Where it stands.
    fn spot(&self) -> &Spot;

    /// Whether something is under way that would be lost with it.
    fn is_needed(&self) -> bool;
}

/// Whose a limit is, and which.
pub(super) struct Spot {
    hash: u64,
    subject: Whose,
    scope: Which,
    /// Whether it was looked for since things were last thrown out.
    is_used: Cell<bool>,
    /// Whether it was thrown out itself.
    is_gone: Cell<bool>,
}

#[derive(PartialEq, Eq)]
enum Whose {
    Key(Box<str>),
    ResetKey(Box<str>, NonZeroU64),
    Address(IpAddr),
    Route(Id),
}

enum Which {
    Key,
    Plan(Id),
    Route(Id),
    OfRoute(Id, Id),
}

impl Spot {
    fn new(hash: u64, subject: Subject<'_>, scope: Scope<'_>) -> Self {
        let subject = match subject {
            Subject::Key(id) => Whose::Key(id.into()),
            Subject::ResetKey(id, at) => Whose::ResetKey(id.into(), at),
            Subject::Address(address) => Whose::Address(address),
            Subject::Route(id) => Whose::Route(id.clone()),
        };
        let scope = match scope {
            Scope::Key => Which::Key,
            Scope::Plan(limit) => Which::Plan(limit.clone()),
            Scope::Route(route) => Which::Route(route.clone()),
            Scope::OfRoute(route, limit) => Which::OfRoute(route.clone(), limit.clone()),
        };
        Self { hash, subject, scope, is_used: Cell::new(true), is_gone: Cell::new(false) }
    }

    /// Notes that it was looked for; false: it was thrown out, and may stand here anew.
    pub(super) fn touch(&self) -> bool {
        self.is_used.set(true);
        !self.is_gone.get()
    }

    /// Whether it was thrown out.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.get()
    }

    /// Whose requests are counted, by their key, and on which route; `None`: those of an address.
    pub(super) fn counted(&self) -> Option<(Option<&str>, Option<&Id>)> {
        let key_id = match &self.subject {
            Whose::Key(id) | Whose::ResetKey(id, _) => Some(&**id),
            Whose::Route(_) => None,
            Whose::Address(_) => return None,
        };
        let route_id = match &self.scope {
            Which::Key | Which::Plan(_) => None,
            Which::Route(route) | Which::OfRoute(route, _) => Some(route),
        };
        Some((key_id, route_id))
    }

    /// Whether both belong to one subject.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.subject == other.subject
    }

    fn is_of(&self, subject: Subject<'_>, scope: Scope<'_>) -> bool {
        let is_same_subject = match (&self.subject, subject) {
            (Whose::Key(this), Subject::Key(other)) => **this == *other,
            (Whose::ResetKey(this, since), Subject::ResetKey(other, at)) => {
                **this == *other && *since == at
            }
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
}

/// Things of one kind, a bounded number of them.
pub(super) struct Shelves<T> {
    hasher: RandomState,
    // Borrowed for a look or an insertion, which calls nothing that could borrow them again.
    keys: RefCell<Shelf<T>>,
    addresses: RefCell<Shelf<T>>,
}

impl<T: Keep> Shelves<T> {
    /// Empty.
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::default(),
            keys: RefCell::new(Shelf::new(OF_KEYS)),
            addresses: RefCell::new(Shelf::new(OF_ADDRESSES)),
        }
    }

    /// How many things are kept for addresses.
    #[cfg(test)]
    pub(super) fn of_addresses(&self) -> usize {
        self.addresses.borrow().things.len()
    }

    /// What is kept for a subject's limit, made now if it is the first time.
    pub(super) fn find(
        &self,
        subject: Subject<'_>,
        scope: Scope<'_>,
        make: impl FnOnce(Spot) -> T,
    ) -> Rc<T> {
        let shelf = match subject {
            Subject::Key(_) | Subject::ResetKey(..) | Subject::Route(_) => &self.keys,
            Subject::Address(_) => &self.addresses,
        };
        let hash = self.hasher.hash_one((subject, scope));
        if let Some(found) = shelf.borrow().find(hash, subject, scope) {
            return found;
        }
        let made = Rc::new(make(Spot::new(hash, subject, scope)));
        shelf.borrow_mut().insert(made.clone());
        made
    }
}

struct Shelf<T> {
    things: HashTable<Rc<T>>,
    bound: usize,
    /// When there are so many, room is made: at the bound, or later where nearly all are needed.
    crowded_at: usize,
}

impl<T: Keep> Shelf<T> {
    fn new(bound: usize) -> Self {
        Self { things: HashTable::new(), bound, crowded_at: bound }
    }

    fn find(&self, hash: u64, subject: Subject<'_>, scope: Scope<'_>) -> Option<Rc<T>> {
        let found = self.things.find(hash, |thing| thing.spot().is_of(subject, scope))?;
        found.spot().touch();
        Some(found.clone())
    }

    fn insert(&mut self, thing: Rc<T>) {
        if self.things.len() >= self.crowded_at {
            self.make_room();
            self.crowded_at = self.bound.max(2 * self.things.len());
        }
        self.things.insert_unique(thing.spot().hash, thing, |thing| thing.spot().hash);
    }

    /// Throws out what was not looked for since this was last done; if that is not much, all that
    /// nobody needs.
    fn make_room(&mut self) {
        self.keep(|thing| thing.is_needed() || thing.spot().is_used.replace(false));
        if self.things.len() > self.bound / 4 * 3 {
            self.keep(T::is_needed);
        }
    }

    fn keep(&mut self, is_kept: impl Fn(&T) -> bool) {
        self.things.retain(|thing| {
            let is_kept = is_kept(thing);
            thing.spot().is_gone.set(!is_kept);
            is_kept
        });
    }
}
