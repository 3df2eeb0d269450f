//! What limits are called, and how often each refused a request.
//!
//! The names of limits are few, and those of a worker share what is kept of them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use foldhash::fast::RandomState;

use super::policy::Scope;

/// The most names refusals are counted by; what comes later counts as [`OTHERS`].
const MOST: usize = 256;

// No id, and so no limit's.
const OTHERS: &str = "(others)";

/// What one limit is called, and its refusals. Cheap to clone within a worker.
#[derive(Clone)]
pub(crate) struct Label(Rc<Kept>);

struct Kept {
    text: Box<str>,
    refusals: Arc<Refusals>,
}

/// How often limits of one name refused a request.
#[derive(Default, Debug)]
pub(crate) struct Refusals {
    /// With 429.
    pub(crate) enforced: AtomicU64,
    /// Would have, were they not in shadow mode.
    pub(crate) shadow: AtomicU64,
}

/// The refusals of a node, by the names of limits.
#[derive(Default)]
pub(super) struct Ledger(Mutex<BTreeMap<Box<str>, Arc<Refusals>>>);

/// The labels a worker has met.
pub(super) struct Labels {
    ledger: Arc<Ledger>,
    met: RefCell<HashMap<Box<str>, Label, RandomState>>,
}

impl Label {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0.text
    }

    #[cfg(test)]
    pub(super) fn named(name: &str) -> Self {
        Self(Rc::new(Kept { text: name.into(), refusals: Arc::default() }))
    }

    /// Its refusals.
    pub(super) fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Label {}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Ledger {
    /// Every name with its refusals: of requests, and of those it let pass in shadow mode.
    pub(super) fn read(&self) -> Vec<(Box<str>, [u64; 2])> {
        let ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts =
            |refusals: &Refusals| [refusals.enforced.load(Relaxed), refusals.shadow.load(Relaxed)];
        ledger.iter().map(|(name, refusals)| (name.clone(), counts(refusals))).collect()
    }

    fn find(&self, name: &str) -> Arc<Refusals> {
        let mut ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refusals) = ledger.get(name) {
            return refusals.clone();
        }
        let name = if ledger.len() < MOST { name } else { OTHERS };
        ledger.entry(name.into()).or_default().clone()
    }
}

impl Labels {
    /// None yet.
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, met: RefCell::default() }
    }

    /// The label of a policy.
    pub(super) fn find(&self, scope: Scope<'_>) -> Label {
        let (kind, name) = scope.label();
        let text = match name {
            None => kind.into(),
            Some(name) => format!("{kind}{name}"),
        };
        let mut met = self.met.borrow_mut();
        if let Some(label) = met.get(text.as_str()) {
            return label.clone();
        }
        // Names come from the config; many are met only as it changes.
        if met.len() >= MOST {
            met.clear();
        }
        let refusals = self.ledger.find(&text);
        let label = Label(Rc::new(Kept { text: text.clone().into(), refusals }));
        met.insert(text.into(), label.clone());
        label
    }
}

#[cfg(test)]
mod tests {
    use fastgate::model::Id;

    use super::*;

    #[test]
    fn names_are_shared_and_bounded() {
        let ledger = Arc::new(Ledger::default());
        let workers = [Labels::new(ledger.clone()), Labels::new(ledger.clone())];
        for labels in &workers {
            labels.find(Scope::Key).refusals().enforced.fetch_add(1, Relaxed);
        }
        assert_eq!(ledger.read(), [("key".into(), [2, 0])]);
        let route = Id::parse("orders").expect("an id");
        for number in 0..2 * MOST {
            let name = Id::parse(&format!("limit-{number}")).expect("an id");
            let label = workers[0].find(Scope::OfRoute(&route, &name));
            assert_eq!(label.as_str(), format!("route:limit-{number}"));
            label.refusals().shadow.fetch_add(1, Relaxed);
        }
        let counted = ledger.read();
        assert_eq!(counted.len(), MOST + 1);
        let shadow: u64 = counted.iter().map(|(_, [_, shadow])| shadow).sum();
        assert_eq!(shadow, 2 * MOST as u64);
    }
}
