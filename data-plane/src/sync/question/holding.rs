//! What does the node serve from?

use std::collections::BTreeSet;

use fastgate::{
    admin::v1::{Config, NamespaceConfig, NodeConfig},
    model::Settings,
    node::v1::{self as wire, EntityKind},
};
use prost::{DecodeError, Message};

use super::Grounds;
use crate::{
    record::Record,
    sync::{Holding, Namespace},
};

/// Bytes of routes, upstreams and plans that are told.
const MOST: usize = 2 << 20;

/// Tells what is held, with the config itself if that is asked.
pub(super) fn tell(with_config: bool, on: &Grounds<'_>) -> Result<NodeConfig, String> {
    let [keys, config] = Namespace::ALL.map(|ns| on.replica.held(ns));
    let count = |kind: EntityKind| {
        let records = config.into_iter().flat_map(Holding::records);
        records.filter(|record| record.kind() == i32::from(kind)).count() as u64
    };
    let quarantined: BTreeSet<_> =
        on.replica.quarantined().iter().map(|error| error.id.as_str()).collect();
    let document = config.filter(|_| with_config).map(|held| document(held, on.environment));
    Ok(NodeConfig {
        node_id: on.node_id.to_owned(),
        environment: on.environment.to_owned(),
        keys: keys.map(position),
        config: config.map(position),
        key_count: keys.map_or(0, Holding::len) as u64,
        quarantined_count: quarantined.len() as u64,
        route_count: count(EntityKind::Route),
        upstream_count: count(EntityKind::Upstream),
        plan_count: count(EntityKind::Plan),
        default_rate_limit: config.map_or(Settings::DEFAULT_RATE_LIMIT, default_rate_limit),
        document: document.transpose()?,
    })
}

/// What the control plane compares and adds comes later.
fn position(held: &Holding) -> NamespaceConfig {
    NamespaceConfig {
        epoch: held.epoch.to_string(),
        revision: held.revision,
        digest: held.digest().to_string(),
        ..NamespaceConfig::default()
    }
}

fn default_rate_limit(held: &Holding) -> i64 {
    let mut records = held.records();
    let settings = records.find(|record| record.kind() == i32::from(EntityKind::Settings));
    let settings = settings.and_then(|record| wire::Settings::decode(record.value()).ok());
    settings.map_or(Settings::DEFAULT_RATE_LIMIT, |settings| settings.default_rate_limit)
}

/// All of the config, as an export would write it.
fn document(held: &Holding, environment: &str) -> Result<Config, String> {
    let bytes: usize = held.records().map(|record| record.value().len()).sum();
    if bytes > MOST {
        return Err(format!(
            "holds {bytes} bytes of config, of which it tells {MOST} at most: leave the config out"
        ));
    }
    let mut records: Vec<&Record> = held.records().collect();
    records.sort_by(|one, other| one.id().cmp(other.id()));
    let mut config = Config { environment: environment.to_owned(), ..Config::default() };
    for record in records {
        add(&mut config, record).map_err(|fault| format!("can't read what it holds: {fault}"))?;
    }
    Ok(config)
}

fn add(config: &mut Config, record: &Record) -> Result<(), DecodeError> {
    match EntityKind::try_from(record.kind()) {
        Ok(EntityKind::Route) => config.routes.push(Message::decode(record.value())?),
        Ok(EntityKind::Upstream) => config.upstreams.push(Message::decode(record.value())?),
        Ok(EntityKind::Plan) => config.plans.push(Message::decode(record.value())?),
        // Settings are told apart; what this node does not know it can't tell.
        Ok(EntityKind::Settings | EntityKind::Key | EntityKind::Unspecified) | Err(_) => {}
    }
    Ok(())
}
