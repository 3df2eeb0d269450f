//! Where do the limits of a key stand?

use fastgate::{
    admin::v1 as admin,
    model::{Cost, Counts, Key, NamedLimit, Route},
    node::v1::{EntityKind, LimitReport},
};
use prost::Message as _;

use super::Grounds;
use crate::{
    explain::Standings,
    limits::{Scope, Subject},
    sync::{Namespace, replica::Replica},
};

/// The most limits that are told.
const TOLD: usize = 200;

/// All limits a key can meet; `None`: they can't be found out.
pub(super) fn of_key(key: &Key, on: &Grounds<'_>) -> Option<Standings> {
    let mut standings = Standings::new(on.node_id, on.limiter);
    let snapshot = on.replica.snapshot()?;
    let entry = snapshot.keys.get(&key.secrets.first()?.hash)?;
    let each = Subject::of_key(key.key_id.as_str(), entry.limits_reset_at());
    let (rate, further) = entry.limits(&snapshot.plans, snapshot.default_rate_limit);
    if let Some(limit) = rate {
        standings.add(each, Scope::Key, &limit, &Cost::ONE);
    }
    for NamedLimit { name, limit, cost, .. } in further {
        standings.add(each, Scope::Plan(name), limit, cost);
    }
    for route in routes(on.replica) {
        add_route(&mut standings, each, &route?);
    }
    Some(standings)
}

/// What they stand at.
pub(super) async fn look(standings: Standings) -> Result<LimitReport, String> {
    let stands = standings.look().await?;
    Ok(LimitReport { limits: stands.into_iter().map(|stands| stands.told).collect() })
}

fn routes(replica: &Replica) -> impl Iterator<Item = Option<Route>> {
    let records = replica.held(Namespace::Config).into_iter().flat_map(|held| held.records());
    let routes = records.filter(|record| record.kind() == i32::from(EntityKind::Route));
    routes.map(|record| Route::parse(&admin::Route::decode(record.value()).ok()?).ok())
}

fn add_route(standings: &mut Standings, each: Subject<'_>, route: &Route) {
    if !route.auth_required || standings.len() >= TOLD {
        return;
    }
    let id = &route.route_id;
    if let Some(limit) = &route.limit {
        standings.add(each, Scope::Route(id), limit, &Cost::ONE);
    }
    for NamedLimit { name, counts, limit, cost } in &route.limits {
        let subject = match counts {
            Counts::Each => each,
            Counts::All => Subject::Route(id),
        };
        standings.add(subject, Scope::OfRoute(id, name), limit, cost);
    }
}
