//! A replica against a model of it, and message by message.

mod mutated;
mod skew;

use std::collections::BTreeMap;

use bytes::Bytes;
use fastgate::{
    admin,
    node::v1::{Entity, EntityRef, KeyRecord, SecretRecord},
};
use proptest::prelude::*;

use super::*;

const KEYS: Namespace = Namespace::Keys;
const CONFIG: Namespace = Namespace::Config;

pub(in crate::sync) fn key(id: usize, source_path: &str) -> Entity {
    let record = KeyRecord {
        key_id: format!("k{id}"),
        source_path: source_path.into(),
        is_active: true,
        secrets: vec![SecretRecord {
            version: 1,
            hash: [u8::try_from(id).expect("a small id"); 32].to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    };
    entity(EntityKind::Key, &record.key_id.clone(), &record)
}

pub(in crate::sync) fn route(id: usize, target: &str) -> Entity {
    let route = admin::v1::Route {
        route_id: format!("r{id}"),
        path_prefix: format!("/{id}"),
        targets: vec![admin::v1::Target { url: target.into(), ..Default::default() }],
        ..Default::default()
    };
    entity(EntityKind::Route, &route.route_id.clone(), &route)
}

fn entity(kind: EntityKind, id: &str, value: &impl Message) -> Entity {
    Entity { kind: kind.into(), id: id.into(), value: value.encode_to_vec().into() }
}

pub(in crate::sync) fn upsert(entity: Entity) -> Change {
    Change { change: Some(change::Change::Upsert(entity)) }
}

pub(in crate::sync) fn delete(entity: &Entity) -> Change {
    let gone = EntityRef { kind: entity.kind, id: entity.id.clone() };
    Change { change: Some(change::Change::Delete(gone)) }
}

fn digest_of(entities: &[Entity]) -> Bytes {
    entities.iter().cloned().collect::<Digest>().to_bytes().to_vec().into()
}

pub(in crate::sync) fn message(body: Body) -> ControlMessage {
    ControlMessage { body: Some(body) }
}

pub(in crate::sync) fn snapshot(
    ns: Namespace,
    revision: u64,
    entities: &[Entity],
) -> Vec<ControlMessage> {
    let mut messages = vec![message(Body::SnapshotBegin(SnapshotBegin {
        ns: ns.to_wire().into(),
        epoch: "e1".into(),
        revision,
        entity_count: entities.len() as u64,
    }))];
    for part in entities.chunks(2) {
        let data: Bytes = EntitySet { entities: part.to_vec() }.encode_to_vec().into();
        let crc32 = crc32fast::hash(&data);
        messages.push(message(Body::SnapshotChunk(SnapshotChunk { data, crc32 })));
    }
    let digest = digest_of(entities).to_vec();
    messages.push(message(Body::SnapshotEnd(SnapshotEnd { digest })));
    messages
}

pub(in crate::sync) fn delta(
    ns: Namespace,
    from: u64,
    to: u64,
    changes: Vec<Change>,
    after: &[Entity],
) -> Delta {
    Delta {
        ns: ns.to_wire().into(),
        epoch: "e1".into(),
        from,
        to,
        changes,
        digest_after: digest_of(after).to_vec(),
    }
}

/// Feeds messages in and admits what comes out, as the follower does.
fn feed(replica: &mut Replica, messages: Vec<ControlMessage>) -> Result<Option<Outcome>, Fault> {
    let mut outcome = None;
    for message in messages {
        if let Step::Update(update) = replica.receive(message)? {
            outcome = Some(replica.admit(update));
        }
    }
    Ok(outcome)
}

/// A replica that holds a key, and a route, at revision 5 each.
fn in_force() -> Replica {
    let mut replica = Replica::new(Id::parse("default").expect("an id"));
    for (ns, entity) in [(KEYS, key(1, "app")), (CONFIG, route(1, "http://a"))] {
        let outcome = feed(&mut replica, snapshot(ns, 5, &[entity])).expect("no fault");
        assert!(matches!(outcome, Some(Outcome::InForce(_))), "{outcome:?}");
    }
    replica
}

fn revisions(replica: &Replica) -> (u64, u64) {
    let snapshot = replica.snapshot().expect("both are held");
    let held = |ns| replica.held(ns).expect("held").revision;
    assert_eq!((snapshot.keys_revision, snapshot.config_revision), (held(KEYS), held(CONFIG)));
    (snapshot.keys_revision, snapshot.config_revision)
}

fn said(replica: &mut Replica) -> Vec<(i32, u64)> {
    let said = replica.open_stream();
    let trusted = said.iter().filter(|held| !held.digest.is_empty());
    trusted.map(|held| (held.ns, held.revision)).collect()
}

#[test]
fn nothing_is_served_before_both_halves_are_in() {
    let mut replica = Replica::new(Id::parse("default").expect("an id"));
    assert!(replica.open_stream().is_empty());
    feed(&mut replica, snapshot(KEYS, 1, &[key(1, "app")])).expect("no fault");
    assert!(replica.snapshot().is_none());
    feed(&mut replica, snapshot(CONFIG, 1, &[])).expect("no fault");
    assert_eq!(revisions(&replica), (1, 1));
}

#[test]
fn a_delta_leads_from_what_is_held_to_the_next_revision() {
    let mut replica = in_force();
    let after = [key(1, "app"), key(2, "web")];
    let sent = delta(KEYS, 5, 6, vec![upsert(key(2, "web"))], &after);
    let Ok(Some(Outcome::InForce(ack))) = feed(&mut replica, vec![message(Body::Delta(sent))])
    else {
        panic!("the delta must be taken")
    };
    assert_eq!((ack.revision, &ack.digest[..]), (6, &digest_of(&after)[..]));
    assert_eq!(revisions(&replica), (6, 5));
    // Several revisions in one step, and a delete.
    let sent = delta(KEYS, 6, 9, vec![delete(&key(1, ""))], &[key(2, "web")]);
    feed(&mut replica, vec![message(Body::Delta(sent))]).expect("no fault");
    assert_eq!(revisions(&replica), (9, 5));
    assert_eq!(replica.snapshot().expect("held").keys.len(), 1);
}

#[test]
fn a_fault_changes_nothing_and_says_what_to_ask_for_next() {
    let one = [key(1, "app"), key(2, "web")];
    let good = || delta(KEYS, 5, 6, vec![upsert(key(2, "web"))], &one);
    let chunk = |crc32| SnapshotChunk { data: Bytes::from_static(b"x"), crc32 };
    let begin = || snapshot(KEYS, 9, &one).remove(0);
    let changed = |change: fn(&mut Delta)| {
        let mut sent = good();
        change(&mut sent);
        vec![message(Body::Delta(sent))]
    };
    let all = vec![(1, 5), (2, 5)];
    type Case = (&'static str, Vec<ControlMessage>, Vec<(i32, u64)>);
    let cases: Vec<Case> = vec![
        ("a gap", changed(|d| d.from = 6), all.clone()),
        ("an old delta", changed(|d| d.from = 4), all.clone()),
        ("backwards", changed(|d| d.to = 5), all.clone()),
        ("another epoch", changed(|d| d.epoch = "e2".into()), all.clone()),
        // Only this one means that what is held can't be trusted.
        ("a wrong digest", changed(|d| d.digest_after[3] ^= 1), vec![(2, 5)]),
        ("a short digest", changed(|d| d.digest_after.truncate(15)), vec![(2, 5)]),
        ("an unknown namespace", changed(|d| d.ns = 9), all.clone()),
        ("a chunk alone", vec![message(Body::SnapshotChunk(chunk(0)))], all.clone()),
        ("a damaged chunk", vec![begin(), message(Body::SnapshotChunk(chunk(1)))], all.clone()),
        (
            "a chunk that is none",
            vec![begin(), message(Body::SnapshotChunk(chunk(crc32fast::hash(b"x"))))],
            all.clone(),
        ),
        ("a snapshot in a snapshot", vec![begin(), begin()], all.clone()),
        ("a delta in a snapshot", vec![begin(), message(Body::Delta(good()))], all.clone()),
        ("an end alone", snapshot(KEYS, 9, &[]).split_off(1), all.clone()),
        (
            "a snapshot of another size",
            {
                let mut messages = snapshot(KEYS, 9, &one);
                if let Some(Body::SnapshotBegin(begin)) = &mut messages[0].body {
                    begin.entity_count += 1;
                }
                messages
            },
            all.clone(),
        ),
        (
            "a snapshot cut short",
            {
                let mut s = snapshot(KEYS, 9, &one);
                s.remove(1);
                s
            },
            all.clone(),
        ),
    ];
    for (name, messages, next) in cases {
        let mut replica = in_force();
        assert!(feed(&mut replica, messages).is_err(), "{name}");
        assert_eq!(revisions(&replica), (5, 5), "{name}");
        assert_eq!(said(&mut replica), next, "{name}");
        // A new stream starts clean, with a snapshot or a delta.
        let mended = if next.len() == 2 {
            feed(&mut replica, vec![message(Body::Delta(good()))])
        } else {
            feed(&mut replica, snapshot(KEYS, 6, &one))
        };
        assert!(matches!(mended, Ok(Some(Outcome::InForce(_)))), "{name}: {mended:?}");
        assert_eq!(said(&mut replica), [(1, 6), (2, 5)], "{name}");
    }
}

#[test]
fn a_message_of_an_unknown_kind_is_passed_over() {
    let mut replica = Replica::new(Id::parse("default").expect("an id"));
    let step = replica.receive(ControlMessage { body: None });
    assert!(matches!(step, Ok(Step::Continue)));
}

#[test]
fn refused_config_changes_nothing_and_holds_no_key_back() {
    let mut replica = in_force();
    let bad = route(2, "ftp://x");
    let sent = delta(CONFIG, 5, 6, vec![upsert(bad.clone())], &[route(1, "http://a"), bad]);
    let Ok(Some(Outcome::Refused(nack))) = feed(&mut replica, vec![message(Body::Delta(sent))])
    else {
        panic!("the route must be refused")
    };
    assert_eq!((nack.revision, nack.errors[0].id.as_str()), (6, "r2"));
    assert_eq!(nack.errors[0].field, "targets[0].url");
    assert_eq!(revisions(&replica), (5, 5));
    assert_eq!(said(&mut replica), [(1, 5), (2, 5)], "a refused revision is not held");

    let sent = delta(KEYS, 5, 6, vec![delete(&key(1, ""))], &[]);
    feed(&mut replica, vec![message(Body::Delta(sent))]).expect("no fault");
    assert_eq!(revisions(&replica), (6, 5));
    // What mends it starts from what is held.
    let good = [route(1, "http://a"), route(2, "http://b")];
    let sent = delta(CONFIG, 5, 7, vec![upsert(route(2, "http://b"))], &good);
    feed(&mut replica, vec![message(Body::Delta(sent))]).expect("no fault");
    assert_eq!(revisions(&replica), (6, 7));
}

#[test]
fn a_bad_key_is_denied_alone_until_it_is_mended() {
    let mut replica = in_force();
    let bad = key(2, "");
    let sent = delta(KEYS, 5, 6, vec![upsert(bad.clone())], &[key(1, "app"), bad]);
    feed(&mut replica, vec![message(Body::Delta(sent))]).expect("no fault");
    assert_eq!(revisions(&replica), (6, 5));
    assert_eq!(replica.quarantined().len(), 1);
    assert_eq!(replica.snapshot().expect("held").keys.len(), 1);
    let after = [key(1, "app"), key(2, "web")];
    let sent = delta(KEYS, 6, 7, vec![upsert(key(2, "web"))], &after);
    feed(&mut replica, vec![message(Body::Delta(sent))]).expect("no fault");
    assert!(replica.quarantined().is_empty());
    assert_eq!(replica.snapshot().expect("held").keys.len(), 2);
}

#[test]
fn keys_change_while_a_config_snapshot_is_coming() {
    let mut replica = in_force();
    let mut messages = snapshot(CONFIG, 7, &[route(1, "http://b")]);
    let revocation = delta(KEYS, 5, 6, vec![delete(&key(1, ""))], &[]);
    messages.insert(1, message(Body::Delta(revocation)));
    assert!(matches!(feed(&mut replica, messages), Ok(Some(Outcome::InForce(_)))));
    assert_eq!(revisions(&replica), (6, 7));
}

#[test]
fn config_of_a_kind_only_newer_nodes_know_is_held_and_passed_over() {
    let mut replica = in_force();
    let newer = Entity { kind: 77, id: "x".into(), value: Bytes::from_static(b"?") };
    let after = [route(1, "http://b"), newer.clone()];
    let changes = vec![upsert(newer.clone()), upsert(route(1, "http://b"))];
    let sent = delta(CONFIG, 5, 6, changes, &after);
    let outcome = feed(&mut replica, vec![message(Body::Delta(sent))]);
    let Ok(Some(Outcome::InForce(ack))) = outcome else { panic!("{outcome:?}") };
    let digest: Digest = after.into_iter().collect();
    assert_eq!((ack.revision, &ack.digest[..]), (6, &digest.to_bytes()[..]));
    let held = replica.held(Namespace::Config).expect("held").get(77, "x");
    assert_eq!(
        held.map(|record| record.value()),
        Some(&b"?"[..]),
        "to be saved, and read by a newer node"
    );
}

#[test]
fn a_barred_revision_is_refused_unseen() {
    let mut replica = in_force();
    let six = || Some(Position { epoch: "e1".into(), revision: 6 });
    replica.bar(six());
    let sent = delta(CONFIG, 5, 6, vec![delete(&route(1, ""))], &[]);
    let outcome = feed(&mut replica, vec![message(Body::Delta(sent))]);
    assert!(matches!(outcome, Ok(Some(Outcome::Refused(_)))), "{outcome:?}");
    let said = replica.refused().remove(0);
    assert_eq!((&*said.epoch, said.nack.map(|nack| nack.revision)), ("e1", Some(6)));
    replica.bar(None);
    assert_eq!(replica.refused(), [], "it is to be sent again");

    replica.bar(six());
    let sent = delta(CONFIG, 5, 6, vec![delete(&route(1, ""))], &[]);
    feed(&mut replica, vec![message(Body::Delta(sent))]).expect("no fault");
    let sent = delta(CONFIG, 5, 7, vec![delete(&route(1, ""))], &[]);
    let outcome = feed(&mut replica, vec![message(Body::Delta(sent))]);
    assert!(matches!(outcome, Ok(Some(Outcome::InForce(_)))), "{outcome:?}");
    assert_eq!(replica.refused(), [], "it got over it");

    // Of another history, it is something else.
    let mut replica = in_force();
    replica.bar(Some(Position { epoch: "e2".into(), revision: 6 }));
    let sent = delta(CONFIG, 5, 6, vec![delete(&route(1, ""))], &[]);
    let outcome = feed(&mut replica, vec![message(Body::Delta(sent))]);
    assert!(matches!(outcome, Ok(Some(Outcome::InForce(_)))), "{outcome:?}");
}

#[test]
fn a_refusal_ends_with_the_revision_the_control_plane_goes_back_behind() {
    let mut replica = in_force();
    let bad = route(2, "ftp://x");
    let sent = delta(CONFIG, 5, 6, vec![upsert(bad.clone())], &[route(1, "http://a"), bad]);
    feed(&mut replica, vec![message(Body::Delta(sent))]).expect("no fault");
    assert_eq!(replica.refused().len(), 1);
    feed(&mut replica, snapshot(CONFIG, 4, &[route(1, "http://b")])).expect("no fault");
    assert_eq!((replica.refused(), revisions(&replica)), (vec![], (5, 4)));
}

#[test]
fn an_entity_larger_than_any_may_be_is_refused_and_a_key_denied_alone() {
    let mut replica = in_force();
    let large = "x".repeat(600 << 10);
    let bad = route(2, &format!("http://{large}"));
    let sent = delta(CONFIG, 5, 6, vec![upsert(bad.clone())], &[route(1, "http://a"), bad]);
    let outcome = feed(&mut replica, vec![message(Body::Delta(sent))]);
    let Ok(Some(Outcome::Refused(nack))) = outcome else { panic!("{outcome:?}") };
    assert_eq!((&*nack.errors[0].id, &*nack.errors[0].field), ("r2", "value"));

    let bad = key(2, &large);
    let sent = delta(KEYS, 5, 6, vec![upsert(bad.clone())], &[key(1, "app"), bad]);
    feed(&mut replica, vec![message(Body::Delta(sent))]).expect("no fault");
    assert_eq!(revisions(&replica), (6, 5));
    assert_eq!(replica.quarantined()[0].field, "value");
}

#[test]
fn more_config_than_a_node_takes_is_refused_as_a_whole() {
    let mut replica = in_force();
    let kind = 77;
    let empty = |n: u64| Entity { kind, id: format!("x{n}"), value: Bytes::new() };
    let many: Vec<_> = (0..=Size::MOST_CONFIG.entities).map(empty).collect();
    let outcome = feed(&mut replica, snapshot(CONFIG, 6, &many));
    let Ok(Some(Outcome::Refused(nack))) = outcome else { panic!("{outcome:?}") };
    assert!(nack.errors[0].message.starts_with("has 100001 objects of config"), "{nack:?}");
    let outcome = feed(&mut replica, snapshot(CONFIG, 7, &many[1..]));
    assert!(matches!(outcome, Ok(Some(Outcome::InForce(_)))));
}

/// What a control plane, or a bad wire, may do next.
#[derive(Clone, Debug)]
enum Act {
    /// A true delta to the state with these ids, in this many revisions.
    Delta {
        ids: Vec<usize>,
        revisions: u64,
    },
    Snapshot {
        ids: Vec<usize>,
    },
    Gap,
    OtherEpoch,
    LostChange {
        id: usize,
    },
    DamagedChunk,
    BadRoute,
    Reconnect,
}

fn acts() -> impl Strategy<Value = Vec<(bool, Act)>> {
    let ids = || prop::collection::vec(0_usize..8, 0..6);
    let act = prop_oneof![
        4 => (ids(), 1_u64..4).prop_map(|(ids, revisions)| Act::Delta { ids, revisions }),
        1 => ids().prop_map(|ids| Act::Snapshot { ids }),
        1 => Just(Act::Gap),
        1 => Just(Act::OtherEpoch),
        1 => (10_usize..20).prop_map(|id| Act::LostChange { id }),
        1 => Just(Act::DamagedChunk),
        1 => Just(Act::BadRoute),
        1 => Just(Act::Reconnect),
    ];
    prop::collection::vec((any::<bool>(), act), 1..40)
}

/// One namespace as the control plane has it.
#[derive(Default)]
struct Truth {
    revision: u64,
    entities: BTreeMap<usize, Entity>,
    /// The replica said so little in its Hello that it needs all of it.
    snapshot_due: bool,
}

impl Truth {
    fn become_(&mut self, ns: Namespace, ids: &[usize], revision: u64) -> Vec<Change> {
        self.revision = revision;
        let make = |id: usize| match ns {
            Namespace::Keys => key(id, &format!("app{revision}")),
            Namespace::Config => route(id, &format!("http://v{revision}")),
        };
        let gone: Vec<_> = self.entities.keys().copied().filter(|id| !ids.contains(id)).collect();
        let mut changes: Vec<_> = gone
            .into_iter()
            .filter_map(|id| self.entities.remove(&id))
            .map(|e| delete(&e))
            .collect();
        for id in ids {
            self.entities.insert(*id, make(*id));
            changes.push(upsert(make(*id)));
        }
        changes
    }

    fn list(&self) -> Vec<Entity> {
        self.entities.values().cloned().collect()
    }
}

proptest! {
    /// Whatever comes: what is held is what the control plane had at that revision, and what is
    /// served is made of it.
    #[test]
    fn what_is_held_is_always_a_true_state(acts in acts()) {
        let mut replica = Replica::new(Id::parse("default").expect("an id"));
        let mut truths = [Truth::default(), Truth::default()];
        for truth in &mut truths {
            truth.snapshot_due = true;
        }
        for (of_keys, act) in acts {
            let (ns, truth) = match (of_keys, &mut truths) {
                (true, [keys, _]) => (KEYS, keys),
                (false, [_, config]) => (CONFIG, config),
            };
            let from = truth.revision;
            let outcome = match act {
                Act::Delta { ids, revisions } => {
                    let changes = truth.become_(ns, &ids, from + revisions);
                    if truth.snapshot_due {
                        truth.snapshot_due = false;
                        feed(&mut replica, snapshot(ns, truth.revision, &truth.list()))
                    } else {
                        let sent = delta(ns, from, truth.revision, changes, &truth.list());
                        feed(&mut replica, vec![message(Body::Delta(sent))])
                    }
                }
                Act::Snapshot { ids } => {
                    truth.become_(ns, &ids, from + 1);
                    truth.snapshot_due = false;
                    feed(&mut replica, snapshot(ns, truth.revision, &truth.list()))
                }
                Act::Gap => {
                    let sent = delta(ns, from + 1, from + 2, vec![], &truth.list());
                    feed(&mut replica, vec![message(Body::Delta(sent))])
                }
                Act::OtherEpoch => {
                    let mut sent = delta(ns, from, from + 1, vec![], &truth.list());
                    sent.epoch = "e2".into();
                    feed(&mut replica, vec![message(Body::Delta(sent))])
                }
                Act::LostChange { id } => {
                    let mut after = truth.list();
                    after.push(key(id, "lost"));
                    let sent = delta(ns, from, from + 1, vec![], &after);
                    feed(&mut replica, vec![message(Body::Delta(sent))])
                }
                Act::DamagedChunk => {
                    let mut messages = snapshot(ns, from + 1, &[route(1, "http://x")]);
                    if let Some(Body::SnapshotChunk(chunk)) = &mut messages[1].body {
                        chunk.crc32 ^= 1;
                    }
                    feed(&mut replica, messages)
                }
                Act::BadRoute => {
                    let mut after = truth.list();
                    after.push(route(30, "ftp://x"));
                    let changes = vec![upsert(route(30, "ftp://x"))];
                    let sent = delta(CONFIG, from, from + 1, changes, &after);
                    if ns == KEYS { continue }
                    feed(&mut replica, vec![message(Body::Delta(sent))])
                }
                Act::Reconnect => Err(Fault::Damaged),
            };
            if outcome.is_err() {
                let said = said(&mut replica);
                for (ns, truth) in Namespace::ALL.into_iter().zip(&mut truths) {
                    truth.snapshot_due = !said.iter().any(|(n, _)| *n == i32::from(ns.to_wire()));
                }
            }
            for (ns, truth) in Namespace::ALL.into_iter().zip(&truths) {
                if let Some(held) = replica.held(ns) {
                    let mut entities: Vec<_> = held.entities().collect();
                    entities.sort_by(|a, b| a.id.cmp(&b.id));
                    prop_assert_eq!(held.revision, truth.revision);
                    prop_assert_eq!(&entities, &truth.list());
                    prop_assert_eq!(&held.digest().to_bytes()[..], &digest_of(&entities)[..]);
                }
            }
            if let Some(snapshot) = replica.snapshot() {
                prop_assert_eq!(snapshot.keys.len(), truths[0].entities.len());
                prop_assert_eq!(snapshot.config_revision, truths[1].revision);
            }
        }
    }
}
