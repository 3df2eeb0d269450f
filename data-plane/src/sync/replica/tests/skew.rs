//! A control plane of another version: what one of version 1 said (`proto/tests/v1`), and what a newer one
//! may say.

use fastgate::{
    node::v1::{Question, question::Ask},
    secret::SecretHash,
};
use prost::encoding::{WireType, encode_key, encode_varint};

use super::*;

/// Everything a control plane of version 1 says, in an order it may say it.
const VERSION_1: [&[u8]; 7] = [
    include_bytes!("../../../../../proto/tests/v1/keys_begin.bin"),
    include_bytes!("../../../../../proto/tests/v1/keys_chunk.bin"),
    include_bytes!("../../../../../proto/tests/v1/keys_end.bin"),
    include_bytes!("../../../../../proto/tests/v1/config_begin.bin"),
    include_bytes!("../../../../../proto/tests/v1/config_chunk.bin"),
    include_bytes!("../../../../../proto/tests/v1/config_end.bin"),
    include_bytes!("../../../../../proto/tests/v1/delta.bin"),
];
const HEARTBEAT: &[u8] = include_bytes!("../../../../../proto/tests/v1/heartbeat.bin");
const DRAIN: &[u8] = include_bytes!("../../../../../proto/tests/v1/drain.bin");
const QUESTION: &[u8] = include_bytes!("../../../../../proto/tests/v1/question_limits.bin");

fn of_version_1() -> impl Iterator<Item = ControlMessage> {
    VERSION_1.into_iter().map(|bytes| ControlMessage::decode(bytes).expect("a message"))
}

/// A message with a field of a newer version.
fn newer(bytes: &[u8]) -> Bytes {
    let mut out = bytes.to_vec();
    encode_key(1003, WireType::LengthDelimited, &mut out);
    encode_varint(3, &mut out);
    out.extend(b"new");
    out.into()
}

fn opens(replica: &Replica, secret: u8) -> Option<String> {
    let snapshot = replica.snapshot().expect("both are held");
    let hash = SecretHash::from_bytes(&[secret; 32]).expect("a hash");
    snapshot.keys.get(&hash).map(|entry| entry.key.key_id().to_owned())
}

fn in_force_as_of_version_1() -> Replica {
    let mut replica = Replica::new(Id::parse("default").expect("an id"));
    for message in of_version_1().take(6) {
        if let Step::Update(update) = replica.receive(message).expect("no fault") {
            let outcome = replica.admit(update);
            assert!(matches!(outcome, Outcome::InForce(_)), "{outcome:?}");
        }
    }
    replica
}

#[test]
fn what_version_1_says_is_taken() {
    let mut replica = in_force_as_of_version_1();
    assert_eq!((revisions(&replica), opens(&replica, 7)), ((7, 7), Some("k1".into())));
    let snapshot = replica.snapshot().expect("is served");
    assert_eq!(snapshot.routes.routes().count(), 1);
    assert_eq!(snapshot.default_rate_limit.map(|rate| rate.per_minute()), Some(100));
    feed(&mut replica, of_version_1().skip(6).collect()).expect("no fault");
    assert_eq!((revisions(&replica), opens(&replica, 7)), ((9, 7), Some("k2".into())));
    let mut receive =
        |bytes: &[u8]| replica.receive(ControlMessage::decode(bytes).expect("a message"));
    let beat = Heartbeat { keys_revision: 7, config_revision: 8, node_count: 3 };
    assert!(matches!(receive(HEARTBEAT), Ok(Step::Heartbeat(it)) if it == beat));
    assert!(matches!(receive(DRAIN), Ok(Step::Drain)));
    let question = receive(QUESTION);
    assert!(matches!(question, Ok(Step::Question(Question { ask: Some(Ask::Limits(_)), .. }))));
}

/// Not even what every version knows of a heartbeat has to be in it.
#[test]
fn an_empty_heartbeat_is_one() {
    let mut replica = in_force_as_of_version_1();
    let step = replica.receive(message(Body::Heartbeat(Heartbeat::default())));
    assert!(matches!(step, Ok(Step::Heartbeat(it)) if it == Heartbeat::default()));
}

#[test]
fn what_a_newer_version_adds_to_an_object_is_held_and_passed_over() {
    let of_1 = in_force_as_of_version_1();
    let mut replica = in_force_as_of_version_1();
    for ns in [KEYS, CONFIG] {
        let entities = of_1.held(ns).expect("held").entities();
        let entities: Vec<_> =
            entities.map(|it| Entity { value: newer(&it.value), ..it }).collect();
        let messages = snapshot(ns, 11, &entities).into_iter();
        let messages = messages
            .map(|it| ControlMessage::decode(newer(&it.encode_to_vec())).expect("a message"));
        // And in between says things nobody has heard of.
        let messages = messages.flat_map(|it| [ControlMessage { body: None }, it]);
        let outcome = feed(&mut replica, messages.collect()).expect("no fault");
        let digest = digest_of(&entities);
        assert!(matches!(outcome, Some(Outcome::InForce(ack)) if ack.digest == digest), "{ns:?}");
        let held: Vec<_> = replica.held(ns).expect("held").entities().collect();
        assert!(entities.iter().all(|entity| held.contains(entity)), "kept for a newer node");
    }
    assert_eq!((revisions(&replica), opens(&replica, 7)), ((11, 11), Some("k1".into())));
    assert!(replica.quarantined().is_empty());

    // A step from there is one as ever.
    let held: Vec<_> = replica.held(KEYS).expect("held").entities().collect();
    let sent = delta(KEYS, 11, 12, vec![delete(&held[0])], &held[1..]);
    let outcome = feed(&mut replica, vec![message(Body::Delta(sent))]).expect("no fault");
    assert!(matches!(outcome, Some(Outcome::InForce(_))));
    assert_eq!(opens(&replica, 7), None);
}

#[test]
fn objects_of_a_newer_kind_are_held_in_either_half() {
    let mut replica = in_force();
    for (ns, known) in [(KEYS, key(1, "app")), (CONFIG, route(1, "http://a"))] {
        let unknown = Entity { kind: 77, id: known.id.clone(), value: Bytes::from_static(b"\xff") };
        let sent =
            delta(ns, 5, 6, vec![upsert(unknown.clone())], &[known.clone(), unknown.clone()]);
        let outcome = feed(&mut replica, vec![message(Body::Delta(sent))]).expect("no fault");
        assert!(matches!(outcome, Some(Outcome::InForce(_))), "{outcome:?}");
        assert!(replica.held(ns).expect("held").entities().any(|entity| entity == unknown));
    }
    assert_eq!(opens(&replica, 1), Some("k1".into()));
    assert!(replica.quarantined().is_empty(), "{:?}", replica.quarantined());
}

/// What cannot be done without is noticed by the digest, and asked for whole.
#[test]
fn a_step_of_a_newer_kind_ends_in_a_snapshot() {
    let mut replica = in_force();
    let after = [key(1, "moved")];
    let sent = delta(KEYS, 5, 6, vec![Change { change: None }], &after);
    let fault = feed(&mut replica, vec![message(Body::Delta(sent))]).expect_err("differs");
    assert_eq!(fault, Fault::Diverged { ns: "keys", revision: 6 });
    assert_eq!(revisions(&replica), (5, 5), "what is held is served");
    assert_eq!(said(&mut replica), [(2, 5)], "and asked for anew");
    feed(&mut replica, snapshot(KEYS, 6, &after)).expect("no fault");
    assert_eq!(revisions(&replica), (6, 5));
}
