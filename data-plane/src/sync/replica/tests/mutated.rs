//! Snapshots and deltas with harm done to them: whatever comes, nothing panics, and what is held is
//! what was held before or what the control plane meant.
//!
//! Bytes that are harmed on the way are one half. The other is worse: entities that were harmed
//! before their checksum and digest were made, as a faulty control plane would send them.
//! `FASTGATE_MUTATIONS` says how many of each are tried.

use std::time::{Duration, Instant};

use fastgate::{
    admin::v1::{Limit, Plan, Recording, Route, Target, Upstream},
    node::v1::{Entity, KeyRecord, SecretRecord, Settings},
};
use proptest::{prelude::*, sample::Index};

use super::*;

const KEYS: Namespace = Namespace::Keys;
const CONFIG: Namespace = Namespace::Config;

/// What is done to bytes.
#[derive(Clone, Debug)]
enum Harm {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Drop(Index),
    Insert(Index, u8),
    /// What is between the two comes again at the end.
    Repeat(Index, Index),
}

impl Harm {
    fn to(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << (bit % 8),
            Self::Set(at, byte) => bytes[at.index(length)] = *byte,
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Drop(at) => drop(bytes.remove(at.index(length))),
            Self::Insert(at, byte) => bytes.insert(at.index(length), *byte),
            Self::Repeat(one, other) => {
                let (one, other) = (one.index(length), other.index(length));
                bytes.extend_from_within(one.min(other)..one.max(other));
            }
        }
    }
}

fn harms() -> impl Strategy<Value = Vec<Harm>> {
    let harm = prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        // Lengths, numbers and tags at their ends do the most.
        4 => (any::<Index>(), prop_oneof![Just(0), Just(0x7F), Just(0xFF), any::<u8>()])
            .prop_map(|(at, byte)| Harm::Set(at, byte)),
        1 => any::<Index>().prop_map(Harm::Cut),
        1 => any::<Index>().prop_map(Harm::Drop),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Harm::Insert(at, byte)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Harm::Repeat(one, other)),
    ];
    prop::collection::vec(harm, 1..4)
}

fn entity(kind: EntityKind, id: &str, value: &impl Message) -> Entity {
    Entity { kind: kind.into(), id: id.into(), value: value.encode_to_vec().into() }
}

/// Every kind of entity, with much in it that could be wrong.
fn config() -> Vec<Entity> {
    let target = |url: &str| Target { url: url.into(), weight: Some(3), ..Default::default() };
    let limit = Limit { name: "a".into(), amount: 10, burst: Some(20), ..Default::default() };
    let quota = Limit { name: "b".into(), period: "month".into(), ..limit.clone() };
    let quota = Limit { burst: None, charge: "header:x-units".into(), ..quota };
    let plan =
        Plan { plan_id: "gold".into(), limits: vec![limit.clone(), quota], ..Default::default() };
    let upstream = Upstream {
        upstream_id: "u1".into(),
        targets: vec![target("http://a:1"), target("http://b:2")],
        ..Default::default()
    };
    let own = Route {
        route_id: "r1".into(),
        name: "orders".into(),
        host: "orders.example".into(),
        path_prefix: "/orders".into(),
        methods: vec!["GET".into(), "POST".into()],
        targets: vec![target("http://c:3"), target("http://d:4")],
        timeout: Some(2.5),
        retry_count: Some(2),
        required_permissions: vec!["orders:read".into()],
        limits: vec![limit],
        recording: Some(Recording {
            request_headers: vec!["accept".into()],
            success_sample: Some(0.5),
            response_body_bytes: 100,
            redact: vec!["$.card.number".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let named = Route {
        route_id: "r2".into(),
        path: "/invoices".into(),
        upstream: "u1".into(),
        ..Default::default()
    };
    vec![
        entity(EntityKind::Settings, "default", &Settings { default_rate_limit: 7 }),
        entity(EntityKind::Plan, "gold", &plan),
        entity(EntityKind::Upstream, "u1", &upstream),
        entity(EntityKind::Route, "r1", &own),
        entity(EntityKind::Route, "r2", &named),
    ]
}

fn keys() -> Vec<Entity> {
    let key = |id: &str, byte: u8| {
        let secret = |version, hash: u8| SecretRecord {
            version,
            hash: vec![hash; 32],
            expires_at_ms: Some(4_000_000_000_000),
            created_at_ms: 1_000,
        };
        let record = KeyRecord {
            key_id: id.into(),
            source_path: "app".into(),
            permissions: vec!["orders:*".into()],
            expires_at_ms: Some(4_000_000_000_000),
            is_active: true,
            rate_limit: Some(5),
            secrets: vec![secret(1, byte), secret(2, byte + 1)],
            plan_id: "gold".into(),
            ..Default::default()
        };
        entity(EntityKind::Key, id, &record)
    };
    vec![key("k1", 10), key("k2", 20)]
}

/// A whole state of a namespace, or what leads to it from what [`in_force`] holds.
fn messages(ns: Namespace, is_delta: bool, entities: &[Entity]) -> Vec<ControlMessage> {
    if !is_delta {
        return snapshot(ns, 9, entities);
    }
    let replica = in_force();
    let mut after: Vec<_> = replica.held(ns).expect("held").entities().collect();
    after.retain(|old| !entities.iter().any(|new| (new.kind, &new.id) == (old.kind, &old.id)));
    after.extend_from_slice(entities);
    let changes = entities.iter().cloned().map(upsert).collect();
    vec![message(Body::Delta(delta(ns, 5, 9, changes, &after)))]
}

/// What is held of both namespaces and whether it is served, to be compared.
fn state(replica: &Replica) -> impl PartialEq + std::fmt::Debug {
    let held = Namespace::ALL.map(|ns| replica.held(ns).map(|held| (held.revision, held.digest())));
    let snapshot = replica.snapshot().expect("is served");
    (held, snapshot.keys.len(), snapshot.keys_revision, snapshot.config_revision)
}

/// Takes messages as the follower does, to the end of the stream or the first fault. What was
/// refused is known by its nack.
fn take(replica: &mut Replica, messages: Vec<ControlMessage>) -> Result<bool, Fault> {
    let mut is_taken = false;
    for message in messages {
        let before = format!("{:?}", state(replica));
        let began = Instant::now();
        let step = replica.receive(message)?;
        match step {
            Step::Update(update) => match replica.admit(update) {
                Outcome::InForce(_) => is_taken = true,
                Outcome::Refused(nack) => {
                    assert!(!nack.errors.is_empty(), "says why");
                    assert!(began.elapsed() < Duration::from_secs(1), "and soon");
                    assert_eq!(format!("{:?}", state(replica)), before, "nothing changed");
                }
            },
            _ => assert_eq!(format!("{:?}", state(replica)), before, "nothing changed"),
        }
    }
    Ok(is_taken)
}

/// Whatever was before, what is sound is taken.
fn takes_what_is_sound(replica: &mut Replica) {
    drop(replica.open_stream());
    for (ns, entities) in [(KEYS, keys()), (CONFIG, config())] {
        assert_eq!(take(replica, snapshot(ns, 11, &entities)), Ok(true), "{ns:?}");
    }
    assert_eq!(revisions(replica), (11, 11));
    assert!(replica.quarantined().is_empty(), "{:?}", replica.quarantined());
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("FASTGATE_MUTATIONS").ok().and_then(|text| text.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(500), ..ProptestConfig::default() }
}

#[test]
fn without_harm_all_of_it_is_taken() {
    takes_what_is_sound(&mut in_force());
    for (ns, entities) in [(KEYS, keys()), (CONFIG, config())] {
        let mut replica = in_force();
        assert_eq!(take(&mut replica, messages(ns, true, &entities)), Ok(true), "{ns:?}");
    }
}

#[test]
fn one_namespace_is_never_taken_for_the_other() {
    for (ns, entities) in [(KEYS, config()), (CONFIG, keys())] {
        for is_delta in [false, true] {
            let mut replica = in_force();
            let before = format!("{:?}", state(&replica));
            let taken = take(&mut replica, messages(ns, is_delta, &entities));
            assert!(matches!(taken, Err(Fault::Malformed(_))), "{ns:?}: {taken:?}");
            assert_eq!(format!("{:?}", state(&replica)), before);
            takes_what_is_sound(&mut replica);
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn harm_on_the_way_is_never_taken_for_what_was_meant(
        of_keys in any::<bool>(),
        is_delta in any::<bool>(),
        which in any::<Index>(),
        harms in harms(),
    ) {
        let (ns, entities) = if of_keys { (KEYS, keys()) } else { (CONFIG, config()) };
        let mut sent = messages(ns, is_delta, &entities);
        let at = which.index(sent.len());
        let mut bytes = sent[at].encode_to_vec();
        harms.iter().for_each(|harm| harm.to(&mut bytes));
        let mut replica = in_force();
        let before = format!("{:?}", state(&replica));
        let Ok(harmed) = ControlMessage::decode(&*bytes) else { return Ok(()) };
        sent[at] = harmed;
        let meant = messages(ns, is_delta, &entities);
        match take(&mut replica, sent) {
            Ok(true) => {
                let mut as_meant = in_force();
                take(&mut as_meant, meant).expect("is sound");
                let digest = |replica: &Replica| replica.held(ns).expect("held").digest();
                prop_assert_eq!(digest(&replica), digest(&as_meant));
            }
            Ok(false) | Err(_) => prop_assert_eq!(format!("{:?}", state(&replica)), before),
        }
        takes_what_is_sound(&mut replica);
    }

    #[test]
    fn harmed_entities_are_refused_or_make_sense(
        of_keys in any::<bool>(),
        is_delta in any::<bool>(),
        which in any::<Index>(),
        harms in harms(),
    ) {
        let (ns, mut entities) = if of_keys { (KEYS, keys()) } else { (CONFIG, config()) };
        let at = which.index(entities.len());
        let mut bytes = entities[at].encode_to_vec();
        harms.iter().for_each(|harm| harm.to(&mut bytes));
        let Ok(harmed) = Entity::decode(&*bytes) else { return Ok(()) };
        // Two of one name would be one in the digest of a control plane.
        let name = |entity: &Entity| (entity.kind, entity.id.clone());
        prop_assume!(!entities.iter().enumerate().any(|(other, it)| other != at && name(it) == name(&harmed)));
        entities[at] = harmed;
        let mut replica = in_force();
        let before = format!("{:?}", state(&replica));
        match take(&mut replica, messages(ns, is_delta, &entities)) {
            Ok(true) => {
                let held: Vec<_> = replica.held(ns).expect("held").entities().collect();
                prop_assert!(entities.iter().all(|entity| held.contains(entity)));
                // A key that makes no sense is denied, and no other one with it.
                let served = replica.snapshot().expect("is served").keys.len();
                prop_assert!(!of_keys || served + 1 >= entities.len());
            }
            // One of the other namespace is not refused alone.
            Ok(false) | Err(Fault::Malformed(_)) => {
                prop_assert_eq!(format!("{:?}", state(&replica)), before);
            }
            Err(fault) => prop_assert!(false, "{}", fault),
        }
        takes_what_is_sound(&mut replica);
    }
}
