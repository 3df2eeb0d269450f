//! Asks the limits whether a request may pass.

use std::net::{IpAddr, Ipv6Addr};

use fastgate::model::Route;

use crate::{
    error::Refusal,
    exchange::Exchange,
    keys::KeyEntry,
    limits::{Policy, Scope, Standings, Subject, Verdict, WorkerLimiter},
    snapshot::Snapshot,
};

/// Counts a request against the limit of its key and the one of its route. The exchange is told
/// where they stand, for whatever answer there will be.
///
/// # Errors
/// When a limit is used up, or can't be counted and is `closed`.
pub(crate) async fn admit(
    limiter: &WorkerLimiter,
    snapshot: &Snapshot,
    route: &Route,
    caller: Option<&KeyEntry>,
    exchange: &mut Exchange,
) -> Result<(), Refusal> {
    let of_key = caller.and_then(|entry| entry.limit(&snapshot.plans, snapshot.default_rate_limit));
    let of_key = of_key.map(|limit| Policy { scope: Scope::Key, limit });
    let of_route = route.limit.map(|limit| Policy { scope: Scope::Route(&route.route_id), limit });
    let (one, two);
    let policies: &[Policy<'_>] = match (of_key, of_route) {
        (None, None) => return Ok(()),
        (Some(policy), None) | (None, Some(policy)) => {
            one = [policy];
            &one
        }
        (Some(key), Some(route)) => {
            two = [key, route];
            &two
        }
    };
    let subject = match caller {
        Some(entry) => Subject::Key(entry.key.key_id()),
        None => Subject::Address(counted_as(exchange.client)),
    };
    let (standings, refusal) = match limiter.admit(subject, policies).await {
        Verdict::Admitted(standings) => (standings, None),
        Verdict::Refused { standings, retry_after } => {
            exchange.rate_limited = true;
            (standings, Some(Refusal::RateLimited { retry_after }))
        }
        Verdict::Unavailable => (Standings::default(), Some(Refusal::LimitsUnavailable)),
    };
    exchange.standings = standings;
    refusal.map_or(Ok(()), Err)
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
