//! What requests turn out to cost, taken out of buckets when they are over.

use std::rc::Rc;

use fastgate::model::{Charge, Cost};
use http::HeaderName;

use super::{
    Shared, WorkerLimiter,
    buckets::Claim,
    places::Place,
    policy::{Policies, Policy},
};

/// What a request is to be charged with.
#[derive(Default)]
pub(crate) struct Charges(Vec<Due>);

struct Due {
    place: Rc<Place>,
    charge: Charge,
    /// By the answer, where that is asked.
    told: u64,
}

impl Charges {
    /// Whether it is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the numbers an answer has in its headers; one unit where it has none.
    pub(crate) fn learn(&mut self, number_in: impl Fn(&HeaderName) -> Option<u64>) {
        for due in &mut self.0 {
            if let Charge::Header(name) = &due.charge {
                due.told = number_in(name).unwrap_or(1);
            }
        }
    }
}

impl WorkerLimiter {
    /// What a request that was admitted is to be charged with when it is over.
    pub(crate) fn charges(&self, policies: &Policies<'_>) -> Charges {
        let due = |policy: &Policy<'_>| match policy.cost {
            Cost::Fixed(_) => None,
            Cost::Charged(charge) => {
                Some(Due { place: self.places.find(policy), charge: charge.clone(), told: 0 })
            }
        };
        let (enforced, shadow) = (policies.enforced.iter(), policies.shadow.iter());
        Charges(enforced.filter_map(due).chain(shadow.filter_map(due)).collect())
    }

    /// Charges a request that is over, whose bodies had so many bytes.
    pub(crate) fn charge(&self, charges: &Charges, request_bytes: u64, response_bytes: u64) {
        for Due { place, charge, told } in &charges.0 {
            let units = match charge {
                Charge::RequestBytes => request_bytes,
                Charge::ResponseBytes => response_bytes,
                Charge::Header(_) => *told,
            };
            if units > 0 {
                self.charge_to(place, units);
            }
        }
    }

    fn charge_to(&self, place: &Rc<Place>, units: u64) {
        let Shared { clock, buckets, nodes, .. } = &*self.shared;
        let mut bucket = place.bucket();
        if let Some(leases) = &self.leases {
            leases.owe(place, units);
            if leases.is_there() {
                return;
            }
            // Against this node's share too, while that is all there is.
            bucket = bucket.share(nodes.sharing());
        }
        buckets.charge(Claim { hold: &place.hold, bucket }, units, clock.now());
    }
}
