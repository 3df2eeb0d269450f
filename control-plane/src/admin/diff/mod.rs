//! What applying a config document would change, or everything that stands in the way.

mod clash;
mod document;
mod identity;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use fastgate::{
    admin::v1,
    model::{Id, Violations},
};

use self::{
    document::{Document, DocumentRoute, Named, Placed},
    identity::{Identity, identify},
};
use crate::{
    domain::{Expect, Op, Plan, Route, Selector, Stored, Upstream},
    error::Error,
    store::Held,
};

/// An object a document creates or changes, or that goes as it does not hold it.
pub(super) enum Step {
    Upstream {
        before: Option<Box<Stored<Upstream>>>,
        after: Box<Upstream>,
    },
    /// `made_up`: the route's id is new, and the next diff would make another.
    Route {
        before: Option<Box<Stored<Route>>>,
        after: Box<Route>,
        made_up: bool,
    },
    Plan {
        before: Option<Box<Stored<Plan>>>,
        after: Box<Plan>,
    },
    DeleteRoute(Box<Stored<Route>>),
    DeleteUpstream(Box<Stored<Upstream>>),
    DeletePlan(Box<Stored<Plan>>),
}

impl Step {
    pub(super) fn is_delete(&self) -> bool {
        matches!(self, Self::DeleteRoute(_) | Self::DeleteUpstream(_) | Self::DeletePlan(_))
    }

    pub(super) fn op(&self) -> Op {
        fn expect<T>(before: Option<&Stored<T>>) -> Expect {
            before.map_or(Expect::Absent, |stored| Expect::Etag(stored.etag.clone()))
        }
        match self {
            Self::Upstream { before, after } => {
                Op::PutUpstream(after.clone(), expect(before.as_deref()))
            }
            Self::Route { before, after, .. } => {
                Op::PutRoute(after.clone(), expect(before.as_deref()))
            }
            Self::Plan { before, after } => Op::PutPlan(after.clone(), expect(before.as_deref())),
            Self::DeleteRoute(gone) => {
                Op::DeleteRoute(gone.object.model.route_id.clone(), expect(Some(gone)))
            }
            Self::DeleteUpstream(gone) => {
                Op::DeleteUpstream(gone.object.id().clone(), expect(Some(gone)))
            }
            Self::DeletePlan(gone) => Op::DeletePlan(gone.object.id().clone(), expect(Some(gone))),
        }
    }
}

/// Compares a document with what is held. Upstreams come before the routes that may name them, and
/// go after those that did. `prune`: what the document does not hold goes. Only objects that are
/// `meant` are compared.
pub(super) fn diff(
    environment: &Id,
    document: v1::Config,
    mut held: Held,
    prune: bool,
    meant: &Selector,
) -> Result<Vec<Step>, Error> {
    let mut faults = Violations::default();
    let mut document = Document::parse(environment, document, &mut faults);
    identify(&mut document.routes, &held.routes);
    let gone = if prune { document.take_missing(&mut held, meant) } else { Vec::new() };
    document.keep_meant(meant);
    clash::check(&document, &held, &mut faults);
    in_order(faults).or(())?;
    let mut steps = steps(document, held)?;
    steps.extend(gone);
    Ok(steps)
}

/// So many may always go at once.
const FEW: usize = 10;

/// One in so many may go at once as well.
const SHARE: usize = 5;

/// Refuses to delete much of what there is: a document that was cut off, or is another one's.
pub(super) fn check_jump(steps: &[Step], stored: usize) -> Result<(), Error> {
    let gone = steps.iter().filter(|step| step.is_delete()).count();
    if gone > FEW && gone * SHARE > stored {
        let fault = format!(
            "is not set, and {gone} of {stored} objects would be deleted: set it if \
                             that is meant"
        );
        return Err(Error::field("force", fault));
    }
    Ok(())
}

/// Faults in the order of the document, whichever check found them.
fn in_order(faults: Violations) -> Violations {
    let place = |field: &str| {
        let (list, rest) = field.split_once('[').unwrap_or((field, ""));
        let index = rest.split_once(']').and_then(|(index, _)| index.parse::<usize>().ok());
        // Upstreams stand before the routes that use them.
        (["upstreams", "routes", "plans"].iter().position(|known| *known == list), index)
    };
    let mut sorted: Vec<_> = faults.into_iter().collect();
    sorted.sort_by_key(|fault| place(&fault.field));
    sorted.into_iter().collect()
}

fn steps(document: Document, held: Held) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    for (before, after) in changed(document.upstreams, held.upstreams)? {
        steps.push(Step::Upstream { before, after });
    }
    let stored = held.routes.into_iter();
    let mut stored: HashMap<_, _> =
        stored.map(|stored| (stored.object.model.route_id.clone(), stored)).collect();
    for DocumentRoute { at, etag, route: after, identity } in document.routes {
        let before = stored.remove(&after.model.route_id);
        check_etag(("route", after.model.route_id.as_str(), at), &etag, before.as_ref())?;
        if before.as_ref().is_none_or(|before| before.object != after) {
            let (before, after) = (before.map(Box::new), Box::new(after));
            steps.push(Step::Route { before, after, made_up: identity == Identity::New });
        }
    }
    for (before, after) in changed(document.plans, held.plans)? {
        steps.push(Step::Plan { before, after });
    }
    Ok(steps)
}

/// An object as it is stored, if it is, and as a document wants it.
type Changed<T> = (Option<Box<Stored<T>>>, Box<T>);

/// The objects of a document that are not stored as they are in it.
fn changed<T: Named>(
    wanted: Vec<Placed<T>>,
    stored: Vec<Stored<T>>,
) -> Result<Vec<Changed<T>>, Error> {
    let stored = stored.into_iter();
    let mut stored: HashMap<_, _> =
        stored.map(|stored| (stored.object.id().clone(), stored)).collect();
    let mut changed = Vec::new();
    for Placed { at, etag, object: after } in wanted {
        let before = stored.remove(after.id());
        check_etag((T::KIND, after.id().as_str(), at), &etag, before.as_ref())?;
        if before.as_ref().is_none_or(|before| before.object != after) {
            changed.push((before.map(Box::new), Box::new(after)));
        }
    }
    Ok(changed)
}

/// An etag in a document asks for the object in just that state. The object: its kind, its id, and
/// its place in the list of its kind.
fn check_etag<T>(
    (kind, id, at): (&'static str, &str, usize),
    sent: &str,
    stored: Option<&Stored<T>>,
) -> Result<(), Error> {
    match stored {
        Some(stored) if !sent.is_empty() && sent != stored.etag => {
            let field = format!("{kind}s[{at}].etag");
            Err(Error::Stale { kind, id: id.to_owned(), field })
        }
        _ => Ok(()),
    }
}
