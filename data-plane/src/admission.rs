//! Asks the limits whether a request may pass.

use std::net::{IpAddr, Ipv6Addr};

use fastgate::model::{Counts, NamedLimit, Route};

use crate::{
    callers::Caller,
    error::Refusal,
    exchange::Exchange,
    limits::{Policies, Scope, Subject, Verdict, WorkerLimiter},
    snapshot::Snapshot,
};

/// Counts a request against the limits of its key and those of its route. The exchange is told
/// where they stand, for whatever answer there will be.
///
/// # Errors
/// When a limit is used up, or can't be counted and is `closed`.
pub(crate) async fn admit(
    limiter: &WorkerLimiter,
    snapshot: &Snapshot,
    route: &Route,
    caller: Option<&Caller>,
    exchange: &mut Exchange,
) -> Result<(), Refusal> {
    let mut policies = Policies::default();
    collect(&mut policies, snapshot, route, (caller, exchange.client));
    if policies.is_empty() {
        return Ok(());
    }
    // First, as a slot can be put back: a request refused here counts against nothing.
    let verdict = match limiter.enter(&policies).await {
        Ok(slots) => {
            let verdict = limiter.admit(&policies).await;
            if matches!(verdict, Verdict::Admitted(_)) {
                exchange.slots = slots;
                exchange.charges = limiter.charges(&policies);
            }
            verdict
        }
        Err(verdict) => verdict,
    };
    match verdict {
        Verdict::Admitted(standings) => {
            exchange.standings = standings;
            Ok(())
        }
        Verdict::Refused { standings, retry_after } => {
            exchange.rate_limited = true;
            exchange.standings = standings;
            let used_up = exchange.standings.iter().filter(|standing| standing.remaining == 0);
            let violated = used_up.map(|standing| standing.label.as_str().into()).collect();
            Err(Refusal::RateLimited { retry_after, violated })
        }
        Verdict::Unavailable => Err(Refusal::LimitsUnavailable),
    }
}

/// What a request must pass: the limits of its key, then those of the route.
pub(crate) fn collect<'a>(
    policies: &mut Policies<'a>,
    snapshot: &'a Snapshot,
    route: &'a Route,
    (caller, client): (Option<&'a Caller>, IpAddr),
) {
    let each = match caller {
        Some(caller) => caller.subject(),
        None => Subject::Address(counted_as(client)),
    };
    if let Some(Caller { entry, at_hand, .. }) = caller {
        let (rate, further) = entry.limits(&snapshot.plans, snapshot.default_rate_limit);
        if let Some(limit) = rate {
            policies.push_at_hand(at_hand, each, Scope::Key, limit);
        }
        for NamedLimit { name, limit, cost, .. } in further {
            policies.push_at(cost, each, Scope::Plan(name), *limit);
        }
    }
    if let Some(limit) = route.limit {
        policies.push(each, Scope::Route(&route.route_id), limit);
    }
    for NamedLimit { name, counts, limit, cost } in &route.limits {
        let subject = match counts {
            Counts::Each => each,
            Counts::All => Subject::Route(&route.route_id),
        };
        policies.push_at(cost, subject, Scope::OfRoute(&route.route_id, name), *limit);
    }
}

/// An IPv6 user has a whole /64 to send from, which counts as one.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_count_as_one() {
        for (address, counted) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
            assert_eq!(counted_as(parse(address)), parse(counted));
        }
    }
}
