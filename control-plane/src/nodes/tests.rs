//! Who is counted and what is listed.

use fastgate::node::{
    self,
    v1::{Answer, EntityError, EntityKind, LimitReport, answer::Told, question::Ask},
};

use super::*;
use crate::store::SaidNode;

fn greeting(environment: &str, node_id: &str) -> Greeting {
    Greeting {
        environment: id(environment),
        node_id: node_id.into(),
        boot_id: "boot-1".into(),
        version: "1.0.0".into(),
        started_at: SystemTime::now(),
        keys: Acked { revision: 3, digest: None },
        config: Acked { revision: 4, digest: None },
        answers_questions: true,
        labels: Labels::default(),
        refused: Vec::new(),
        certificate_ends: None,
    }
}

fn at(revision: u64) -> Acked {
    Acked { revision, digest: None }
}

fn id(text: &str) -> Id {
    Id::parse(text).expect("an id")
}

fn list(nodes: &Nodes) -> Vec<v1::Node> {
    nodes.list(None, |_, ns| if ns == Namespace::Keys { 10 } else { 20 })
}

fn age(nodes: &Nodes, node_id: &str, by: Duration) {
    let name = (id("default"), node_id.to_owned());
    nodes.state().here.get_mut(&name).expect("is there").last_seen_at -= by;
}

#[test]
fn a_node_counts_as_long_as_its_lease_is_held() {
    let nodes = Nodes::default();
    assert_eq!(nodes.count(&id("default")), 1, "who divides by it counts itself");
    let first = nodes.connect(greeting("default", "n1")).expect("room").0;
    let _second = nodes.connect(greeting("default", "n2")).expect("room").0;
    let _elsewhere = nodes.connect(greeting("staging", "n1")).expect("room").0;
    assert_eq!((nodes.count(&id("default")), nodes.count(&id("staging"))), (2, 1));
    drop(first);
    assert_eq!(nodes.count(&id("default")), 1);
    let connected: Vec<_> = list(&nodes)
        .into_iter()
        .map(|node| (node.environment, node.node_id, node.connected))
        .collect();
    let expected = [("default", "n1", false), ("default", "n2", true), ("staging", "n1", true)];
    assert_eq!(connected, expected.map(|(e, n, is)| (e.to_owned(), n.to_owned(), is)));
}

#[tokio::test]
async fn the_newest_stream_of_a_node_is_the_one_that_counts() {
    let nodes = Nodes::default();
    let older = nodes.connect(greeting("default", "n1")).expect("room").0;
    let newer = nodes.connect(greeting("default", "n1")).expect("room").0;
    tokio::time::timeout(Duration::from_secs(1), older.replaced()).await.expect("is told");
    older.acked(Namespace::Keys, at(9));
    older.status(&Status { events_produced: 7, ..Status::default() });
    drop(older);
    let listed = list(&nodes).remove(0);
    assert!(listed.connected, "the end of the older stream is not the node's");
    assert_eq!((listed.keys_revision, listed.events_produced), (3, 0));
    drop(newer);
    assert!(!list(&nodes)[0].connected);
}

#[test]
fn streams_that_take_over_from_each_other_leave_the_last_one_connected() {
    let nodes = Nodes::default();
    for _ in 0..200 {
        let older = nodes.connect(greeting("default", "n1")).expect("room").0;
        let newer = std::thread::scope(|scope| {
            scope.spawn(move || drop(older));
            nodes.connect(greeting("default", "n1")).expect("room").0
        });
        assert!(list(&nodes)[0].connected);
        drop(newer);
    }
}

#[test]
fn what_a_node_says_is_listed() {
    let nodes = Nodes::default();
    let lease = nodes.connect(greeting("default", "n1")).expect("room").0;
    lease.acked(Namespace::Keys, at(8));
    lease.acked(Namespace::Config, at(25));
    let error = |kind: EntityKind, id: &str| EntityError {
        kind: kind.into(),
        id: id.into(),
        field: "path".into(),
        message: "is odd".into(),
    };
    let mut errors = vec![error(EntityKind::Route, "a"), error(EntityKind::Unspecified, "")];
    errors.extend((0..9).map(|n| error(EntityKind::Key, &format!("k{n}"))));
    let nack = Nack { ns: node::v1::Namespace::Config.into(), revision: 26, errors };
    lease.nacked(&nack);
    let listed = list(&nodes).remove(0);
    assert_eq!((listed.keys_revision, listed.keys_lag), (8, 2));
    assert_eq!((listed.config_revision, listed.config_lag), (25, 0), "it knows more than here");
    assert_eq!(
        listed.last_nack,
        "revision 26: route a: path: is odd; is odd; key k0: path: is odd; \
         key k1: path: is odd; key k2: path: is odd"
    );
    let refusal = listed.refusal.expect("it stands");
    assert_eq!((&*refusal.namespace, refusal.revision, refusal.fault_count), ("config", 26, 11));
    let (kind, id, field, message) = ("route", "a", "path", "is odd");
    let first = v1::NodeFault {
        kind: kind.into(),
        id: id.into(),
        field: field.into(),
        message: message.into(),
    };
    assert_eq!((refusal.faults.len(), &refusal.faults[0]), (11, &first));

    // On its next stream it says so itself.
    let again = Greeting { refused: vec![nack], ..greeting("default", "n1") };
    let lease = nodes.connect(again).expect("room").0;
    assert_eq!(list(&nodes)[0].refusal.as_ref().map(|refusal| refusal.revision), Some(26));
    lease.acked(Namespace::Keys, Acked { revision: 9, digest: None });
    assert!(list(&nodes)[0].refusal.is_some(), "that was another namespace");
    lease.acked(Namespace::Config, Acked { revision: 25, digest: None });
    assert!(list(&nodes)[0].refusal.is_some(), "that was an earlier one");
    lease.acked(Namespace::Config, Acked { revision: 27, digest: None });
    let listed = list(&nodes).remove(0);
    assert_eq!(listed.refusal, None, "it got over it");
    assert!(listed.last_nack.starts_with("revision 26: "), "{}", listed.last_nack);
}

#[test]
fn a_nack_is_told_at_a_bounded_length() {
    let nodes = Nodes::default();
    let lease = nodes.connect(greeting("default", "n1")).expect("room").0;
    let message = "\u{e4}".repeat(1 << 20);
    let error = EntityError { message: message.clone(), id: message.clone(), ..Default::default() };
    let ns = node::v1::Namespace::Config.into();
    lease.nacked(&Nack { ns, revision: 1, errors: vec![error; 1000] });
    lease.status(&Status { limits_state: message, ..Status::default() });
    let listed = list(&nodes).remove(0);
    assert!(listed.last_nack.len() <= 3 << 10, "{}", listed.last_nack.len());
    let refusal = listed.refusal.expect("it stands");
    assert_eq!((refusal.faults.len(), refusal.fault_count), (20, 1000));
    let bytes = prost::Message::encoded_len(&refusal);
    assert!(bytes <= 64 << 10, "{bytes}");
    assert_eq!(listed.limits_state, "", "none of the states there are");
}

#[test]
fn a_node_that_went_is_forgotten_after_an_hour() {
    let nodes = Nodes::default();
    drop(nodes.connect(greeting("default", "gone")).expect("room").0);
    let _stays = nodes.connect(greeting("default", "quiet")).expect("room").0;
    age(&nodes, "gone", REMEMBERED - Duration::from_secs(5));
    age(&nodes, "quiet", REMEMBERED * 2);
    assert_eq!(list(&nodes).len(), 2);
    age(&nodes, "gone", Duration::from_secs(10));
    let left: Vec<_> = list(&nodes).into_iter().map(|node| node.node_id).collect();
    assert_eq!(left, ["quiet"], "connected, so never forgotten");
    assert_eq!(nodes.state().here.len(), 2);
    let _next = nodes.connect(greeting("default", "next")).expect("room").0;
    assert_eq!(nodes.state().here.len(), 2, "its memory is given back");
}

#[test]
fn there_is_room_for_so_many_and_always_for_one_known() {
    let nodes = Nodes::default();
    let connect = |n: usize| nodes.connect(greeting("default", &format!("n{n}")));
    let leases: Vec<_> = (0..NODES).map(|n| connect(n).expect("room")).collect();
    assert!(connect(NODES).is_none());
    let again = connect(0);
    assert!(again.is_some());
    drop((leases, again));
    assert!(connect(NODES).is_some(), "who left makes room for who comes");
}

/// What another replica says of a node of the default environment.
fn said(node_id: &str, connected: bool, age: u64) -> SaidNode {
    let at = |second: i64| Some(prost_types::Timestamp { seconds: second, nanos: 0 });
    let node = v1::Node {
        node_id: node_id.into(),
        environment: "default".into(),
        version: "elsewhere".into(),
        connected,
        connected_at: at(1),
        last_seen_at: at(2),
        keys_revision: 4,
        keys_lag: 2,
        ..v1::Node::default()
    };
    SaidNode { node, age: Duration::from_secs(age) }
}

#[test]
fn nodes_elsewhere_count_once_and_while_they_are_spoken_of() {
    let nodes = Nodes::default();
    let here = nodes.connect(greeting("default", "n1")).expect("room").0;
    let mut changes = nodes.count_changes();
    let both = || vec![said("n1", true, 1), said("n2", true, 9), said("n2", true, 1)];
    nodes.hear(both(), false);
    assert_eq!(nodes.count(&id("default")), 2);
    assert!(changes.has_changed().expect("open"));
    changes.mark_unchanged();
    nodes.hear(both(), false);
    assert!(!changes.has_changed().expect("open"), "nobody is told what is no news");
    drop(here);
    assert_eq!(nodes.count(&id("default")), 2, "it is said to be elsewhere");

    nodes.hear(vec![said("n1", false, 1), said("n2", true, 11), said("n3", true, 1)], false);
    assert_eq!(nodes.count(&id("default")), 1, "one went and of one nothing more is said");
    let connected: Vec<_> =
        list(&nodes).into_iter().map(|node| (node.node_id, node.connected)).collect();
    let expected = [("n1", false), ("n2", false), ("n3", true)];
    assert_eq!(connected, expected.map(|(node, is)| (node.to_owned(), is)));

    nodes.hear(vec![said("n2", true, 3601)], false);
    let left: Vec<_> = list(&nodes).into_iter().map(|node| node.node_id).collect();
    assert_eq!(left, ["n1"], "it was here within the hour");
}

#[test]
fn a_node_is_counted_once_in_whatever_order_its_streams_end() {
    let nodes = Nodes::default();
    let _other = nodes.connect(greeting("default", "n2")).expect("room").0;
    let connect = || nodes.connect(greeting("default", "n1")).expect("room").0;
    let (first, second) = (connect(), connect());
    assert_eq!(nodes.count(&id("default")), 2);
    drop(second);
    assert_eq!(nodes.count(&id("default")), 1);
    drop(first);
    assert_eq!(nodes.count(&id("default")), 1, "it went before");
    let (third, fourth) = (connect(), connect());
    drop(third);
    assert_eq!(nodes.count(&id("default")), 2, "a newer stream is there");
    nodes.hear(vec![said("n1", true, 1)], false);
    drop(fourth);
    assert_eq!(nodes.count(&id("default")), 2, "it is elsewhere");
    nodes.hear(vec![], false);
    assert_eq!(nodes.count(&id("default")), 1);
}

#[test]
fn nodes_here_count_whatever_is_said() {
    let nodes = Nodes::default();
    let _first = nodes.connect(greeting("default", "n1")).expect("room").0;
    let _second = nodes.connect(greeting("default", "n2")).expect("room").0;
    for said in [vec![], vec![said("n1", false, 0)], vec![said("n1", true, 60)]] {
        nodes.hear(said, false);
        assert_eq!(nodes.count(&id("default")), 2);
    }
}

#[test]
fn a_node_is_listed_where_it_is_now() {
    let nodes = Nodes::default();
    nodes.hear(vec![said("n1", true, 1)], false);
    assert_eq!(list(&nodes)[0].version, "elsewhere");
    assert_eq!(list(&nodes)[0].keys_lag, 2, "as it was told, whatever came since");
    let lease = nodes.connect(greeting("default", "n1")).expect("room").0;
    assert_eq!(list(&nodes)[0].version, "1.0.0", "connected later");
    drop(lease);
    assert_eq!(list(&nodes)[0].version, "elsewhere");
    nodes.hear(vec![said("n1", true, 11)], false);
    assert_eq!(list(&nodes)[0].version, "1.0.0", "seen later");
    assert_eq!(list(&nodes).len(), 1);
}

#[test]
fn after_an_outage_of_the_store_nobody_is_gone_before_their_replica_had_time_to_speak() {
    let nodes = Nodes::default();
    let _here = nodes.connect(greeting("default", "n0")).expect("room").0;
    nodes.hear(vec![said("n1", true, 1), said("n2", true, 1), said("n3", true, 11)], false);
    let after = || vec![said("n1", true, 300), said("n2", false, 1), said("n3", true, 300)];
    nodes.hear(after(), true);
    nodes.hear(after(), true);
    assert_eq!(nodes.count(&id("default")), 2, "n0 and n1: n2 went, n3 was gone before");
    nodes.hear(vec![said("n1", true, 1), said("n4", true, 1)], true);
    assert_eq!(nodes.count(&id("default")), 3);
    nodes.hear(vec![said("n1", true, 310), said("n4", true, 1)], false);
    assert_eq!(nodes.count(&id("default")), 2);
}

#[tokio::test]
async fn a_question_reaches_nodes_of_its_environment_and_comes_back_answered() {
    let nodes = Nodes::default();
    let (_lease, mut questions) = nodes.connect(greeting("default", "n1")).expect("room");
    let old = Greeting { answers_questions: false, ..greeting("default", "n2") };
    let _old = nodes.connect(old).expect("room");
    let _elsewhere = nodes.connect(greeting("staging", "n3")).expect("room");
    let node = async {
        let asked = questions.next().await;
        let Some(Ask::Limits(query)) = asked.ask else { panic!("another question") };
        assert_eq!((query.key_id.as_str(), query.reset), ("k", false));
        let question_id = asked.question_id;
        questions.answer(Answer { question_id: question_id + 1, ..Answer::default() });
        questions.answer(Answer { question_id, fault: "can't".into(), told: None });
    };
    let (environment, key) = (id("default"), id("k"));
    let (answers, ()) = tokio::join!(nodes.limits(&environment, &key, 0), node);
    let declined = Unanswered::Declined { node_id: "n1".into(), why: "can't".into() };
    let too_old = "node 'n2' is too old to be asked: bring it up to date";
    assert_eq!(answers, [Err(declined), Err(Unanswered::Unheard(too_old.into()))]);

    let why = async |node_id: &str| {
        let asked = nodes.holding(&environment, node_id, false).await;
        asked.expect_err("nobody answers").to_string()
    };
    assert_eq!(why("n2").await, too_old);
    assert_eq!(why("n3").await, "node 'n3' is not connected");
    assert!(nodes.why_none(&environment).starts_with("none is connected"));
    nodes.hear(vec![said("n4", true, 1)], false);
    assert!(nodes.why_none(&environment).contains("ask one of those"));
    assert!(nodes.why_none(&id("staging")).starts_with("none is connected"), "of its own");
    assert_eq!(why("n4").await, "node 'n4' is connected to another control plane: ask that one");
}

#[tokio::test(start_paused = true)]
async fn a_node_is_asked_about_a_change_once_it_has_it() {
    let nodes = Nodes::default();
    let (soon, mut questions) = nodes.connect(greeting("default", "soon")).expect("room");
    let (_never, _asked_nothing) = nodes.connect(greeting("default", "never")).expect("room");
    let node = async {
        let asked = tokio::time::timeout(Duration::from_millis(500), questions.next()).await;
        assert!(asked.is_err(), "it has the revision before");
        soon.acked(Namespace::Keys, at(4));
        let question_id = questions.next().await.question_id;
        let told = Some(Told::Limits(LimitReport::default()));
        questions.answer(Answer { question_id, told, fault: String::new() });
    };
    let (environment, key) = (id("default"), id("k"));
    let (answers, ()) = tokio::join!(nodes.limits(&environment, &key, 4), node);
    let lacks = "node 'never' does not have this change yet, and counts as before until it does";
    assert_eq!(answers, [Err(Unanswered::Unheard(lacks.into())), Ok(Vec::new())]);
}
