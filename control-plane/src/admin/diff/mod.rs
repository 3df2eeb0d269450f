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
    document::{Document, DocumentRoute, DocumentUpstream},
    identity::{Identity, identify},
};
use crate::{
    domain::{Expect, Op, Route, Stored, Upstream},
    error::Error,
};

/// The routes and upstreams of an environment as of one revision.
pub(super) struct Held {
    pub(super) revision: u64,
    pub(super) upstreams: Vec<Stored<Upstream>>,
    pub(super) routes: Vec<Stored<Route>>,
}

/// An object a document creates, or changes.
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
}

impl Step {
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
        }
    }
}

/// Compares a document with what is held. Upstreams come before the routes that may name them.
pub(super) fn diff(environment: &Id, document: v1::Config, held: Held) -> Result<Vec<Step>, Error> {
    let mut faults = Violations::default();
    let mut document = Document::parse(environment, document, &mut faults);
    identify(&mut document.routes, &held.routes);
    clash::check(&document, &held, &mut faults);
    in_order(faults).or(())?;
    steps(document, held)
}

/// Faults in the order of the document, whichever check found them.
fn in_order(faults: Violations) -> Violations {
    let place = |field: &str| {
        let (list, rest) = field.split_once('[').unwrap_or((field, ""));
        let index = rest.split_once(']').and_then(|(index, _)| index.parse::<usize>().ok());
        // Upstreams stand before the routes that use them.
        (list == "routes", index)
    };
    let mut sorted: Vec<_> = faults.into_iter().collect();
    sorted.sort_by_key(|fault| place(&fault.field));
    sorted.into_iter().collect()
}

fn steps(document: Document, held: Held) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let stored = held.upstreams.into_iter();
    let mut stored: HashMap<_, _> =
        stored.map(|stored| (stored.object.model.upstream_id.clone(), stored)).collect();
    for DocumentUpstream { at, etag, upstream: after } in document.upstreams {
        let before = stored.remove(&after.model.upstream_id);
        let place = ("upstream", after.model.upstream_id.as_str(), at);
        check_etag(place, &etag, before.as_ref())?;
        if before.as_ref().is_none_or(|before| before.object != after) {
            steps.push(Step::Upstream { before: before.map(Box::new), after: Box::new(after) });
        }
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
    Ok(steps)
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
