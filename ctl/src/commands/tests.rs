//! Commands against a small control plane of their own.

mod plane;

use clap::Parser as _;

use fastgate::admin::v1;

use self::plane::Plane;
use super::*;
use crate::error::Error;

/// How a command ended and what it wrote.
struct Ran {
    result: Result<Outcome, Error>,
    out: String,
    err: String,
}

fn fgctl(plane: &Plane, line: &str) -> Ran {
    run_with(plane, line, Some("fga_test".to_owned().into()))
}

fn run_with(plane: &Plane, line: &str, token: Option<secrecy::SecretString>) -> Ran {
    let line = format!("fgctl --addr {} {line}", plane.addr);
    let words = line.split(' ').map(|word| word.replace('~', " "));
    let cli = Cli::try_parse_from(words).expect("a command line");
    let around = Surroundings { token, config_home: None, data_home: None };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let form = cli.global.output;
    let result = run(cli, &around, &mut Output::new(form, &mut out, &mut err));
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { result, out: text(out), err: text(err) }
}

#[test]
fn a_new_key_is_shown_once_with_a_note() {
    let plane = Plane::start();
    let ran = fgctl(
        &plane,
        "keys create --source-path mobile_app --permission orders:read,orders:write --rate-limit 60",
    );
    assert_eq!(ran.result.expect("created"), Outcome::Done);
    insta::assert_snapshot!(ran.out, @r"
    key_id       key-1
    key_value    fg_shown_once
    source_path  mobile_app
    permissions  orders:read, orders:write
    created_at   2026-09-21T14:13:20Z
    is_active    true
    rate_limit   60
    environment  default
    etag         1
    ");
    insta::assert_snapshot!(ran.err, @"key_value is shown this once and can't be read again: keep it safe");

    let ran = fgctl(&plane, "key create --source-path web -o json");
    ran.result.expect("created");
    insta::assert_snapshot!(ran.out, @r#"
    {
      "key_id": "key-2",
      "key_value": "fg_shown_once",
      "source_path": "web",
      "permissions": [],
      "created_at": "2026-09-21T14:13:20.123Z",
      "expires_at": null,
      "is_active": true,
      "usage_count": 0,
      "rate_limit": null,
      "environment": "default",
      "rate_limit_fallback": "",
      "updated_at": null,
      "last_used_at": null,
      "etag": "1",
      "secrets": [],
      "description": "",
      "plan_id": "",
      "limits_reset_at": null
    }
    "#);
}

#[test]
fn keys_are_listed_over_all_pages() {
    let plane = Plane::start();
    let empty = fgctl(&plane, "keys list");
    assert_eq!((empty.out.as_str(), empty.err.as_str()), ("", "no keys\n"));
    for name in ["mobile_app", "web", "partner\u{1b}[2J"] {
        fgctl(&plane, &format!("keys create --source-path {name}")).result.expect("created");
    }
    let ran = fgctl(&plane, "keys list");
    ran.result.expect("listed");
    insta::assert_snapshot!(ran.out, @r"
    KEY ID  SOURCE PATH       STATE   PERMISSIONS  PLAN  LIMIT/MIN  USED  CREATED               EXPIRES
    key-1   mobile_app        active                                0     2026-09-21T14:13:20Z
    key-2   web               active                                0     2026-09-21T14:13:20Z
    key-3   partner\u{1b}[2J  active                                0     2026-09-21T14:13:20Z
    ");
    let ran = fgctl(&plane, "keys list --limit 2 -o yaml");
    insta::assert_snapshot!(ran.err, @"there are more keys: raise --limit");
    assert_eq!(ran.out.matches("key_id:").count(), 2);
    let all = fgctl(&plane, "keys list -o json").out;
    let all: serde_json::Value = serde_json::from_str(&all).expect("JSON");
    assert_eq!(all["keys"].as_array().map(Vec::len), Some(3));
    assert_eq!(all["next_page_token"], "");
}

#[test]
fn an_update_names_the_fields_it_changes() {
    let plane = Plane::start();
    fgctl(&plane, "keys create --source-path web").result.expect("created");
    let ran = fgctl(
        &plane,
        "keys update key-1 --rate-limit 5 --active false --clear expires-at --etag 1 -o json",
    );
    ran.result.expect("updated");
    let mask = plane.last_mask();
    assert_eq!(mask, ["expires_at", "rate_limit", "is_active"]);

    let nothing = fgctl(&plane, "keys update key-1").result.expect_err("nothing to change");
    assert_eq!(nothing.exit_code(), 2);
}

#[test]
fn refusals_say_what_to_do() {
    let plane = Plane::start();
    fgctl(&plane, "keys create --source-path web").result.expect("created");
    let report = |ran: Ran| ran.result.expect_err("refused").report();
    insta::assert_snapshot!(report(run_with(&plane, "keys list", None)), @r"
    error: no valid admin token was sent
      give an admin token: --token-file FILE, the variable FGCTL_TOKEN, or a context (fgctl context set)
    ");
    insta::assert_snapshot!(report(fgctl(&plane, "keys get nobody")), @"error: there is no such key");
    insta::assert_snapshot!(report(fgctl(&plane, "keys create")), @r"
    error: the key is not valid (INVALID)
      key.source_path: is missing: give one
    ");
    insta::assert_snapshot!(
        report(fgctl(&plane, "keys update key-1 --rate-limit 5 --etag stale")), @r"
        error: the key was changed since etag 'stale'
          get shows it as it is now, with its etag
        "
    );
    insta::assert_snapshot!(report(fgctl(&plane, "tokens list")), @r"
    error: Operation is not implemented or not supported
      is the control plane of the same version as fgctl?
    ");
}

const DOCUMENT: &str = "\
upstreams:
  - upstream_id: users
    targets:
      - url: http://localhost:8001
routes:
  - route_id: users
    path_prefix: /users
    upstream: users
    timeout: 30
  - route_id: bad
    path: /bad
    targets:
      - url: ftp://nowhere
";

#[test]
fn faults_the_control_plane_finds_are_placed_in_the_file() {
    let plane = Plane::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, DOCUMENT).expect("written");
    for command in ["apply -f", "diff -f", "config validate -f"] {
        let ran = fgctl(&plane, &format!("{command} {}", path.display()));
        let report = ran.result.expect_err("refused").report();
        let report = report.replace(&folder.path().display().to_string(), "");
        assert!(
            report.contains(
                "  /gateway.yaml:13: routes[1].targets[0].url: has the scheme 'ftp': use http"
            ),
            "{command}: {report}"
        );
    }
}

#[test]
fn a_diff_shows_each_object_and_ends_with_differs() {
    let plane = Plane::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.yaml");
    let good = DOCUMENT.replace("ftp://nowhere", "http://somewhere");
    std::fs::write(&path, &good).expect("written");

    let ran = fgctl(&plane, &format!("diff -f {}", path.display()));
    assert_eq!(ran.result.expect("a diff"), Outcome::Differs);
    insta::assert_snapshot!(ran.out, @r"
    --- /dev/null
    +++ upstream/users (document)
    @@ -0,0 +1,3 @@
    +upstream_id: users
    +targets:
    +- url: http://localhost:8001
    --- /dev/null
    +++ route/users (document)
    @@ -0,0 +1,4 @@
    +route_id: users
    +path_prefix: /users
    +upstream: users
    +timeout: 30
    --- /dev/null
    +++ route/bad (document)
    @@ -0,0 +1,4 @@
    +route_id: bad
    +path: /bad
    +targets:
    +- url: http://somewhere
    ");

    let ran = fgctl(&plane, &format!("apply -f {}", path.display()));
    assert_eq!(ran.result.expect("applied"), Outcome::Done);
    insta::assert_snapshot!(ran.out, @r"
    upstream users created
    route users created
    route bad created
    applied as revision 1
    ");

    std::fs::write(&path, good.replace("timeout: 30", "timeout: 12.5")).expect("written");
    let ran = fgctl(&plane, &format!("config diff -f {}", path.display()));
    assert_eq!(ran.result.expect("a diff"), Outcome::Differs);
    insta::assert_snapshot!(ran.out, @r"
    --- route/users (stored)
    +++ route/users (document)
    @@ -1,4 +1,4 @@
     route_id: users
     path_prefix: /users
     upstream: users
    -timeout: 30
    +timeout: 12.5
    ");

    let exported = fgctl(&plane, "export");
    exported.result.expect("exported");
    insta::assert_snapshot!(exported.out, @r"
    environment: default
    upstreams:
    - upstream_id: users
      targets:
      - url: http://localhost:8001
    routes:
    - route_id: users
      path_prefix: /users
      upstream: users
      timeout: 30
    - route_id: bad
      path: /bad
      targets:
      - url: http://somewhere
    ");
    std::fs::write(&path, exported.out).expect("written");
    let ran = fgctl(&plane, &format!("diff -f {}", path.display()));
    assert_eq!(ran.result.expect("a diff"), Outcome::Done);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "nothing would change\n"));
}

/// A node that has acknowledged a revision of the config.
fn node(node_id: &str, config_revision: u64) -> v1::Node {
    v1::Node { node_id: node_id.into(), config_revision, connected: true, ..Default::default() }
}

#[test]
fn waiting_ends_when_all_nodes_have_a_change_or_one_refuses_it() {
    let plane = Plane::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, DOCUMENT.replace("ftp://nowhere", "http://a")).expect("written");
    let apply = format!("apply -f {} --wait=30", path.display());

    let away = v1::Node { connected: false, ..node("gone", 0) };
    plane.set_nodes(vec![node("n1", 1), node("n2", 7), away]);
    let ran = fgctl(&plane, &apply);
    ran.result.expect("all have it");
    assert_eq!(ran.err, "2 of 2 connected nodes have revision 1\n");

    let fault = |kind: &str, id: &str| v1::NodeFault {
        kind: kind.into(),
        id: id.into(),
        field: "path".into(),
        message: "is odd".into(),
    };
    let refusal = |namespace: &str, revision| {
        let refusal = v1::NodeRefusal {
            namespace: namespace.into(),
            revision,
            faults: vec![fault("route", "users"), fault("", "")],
            fault_count: 9,
        };
        Some(refusal)
    };
    // What has nothing to do with this revision is no reason to end.
    let keys = v1::Node { refusal: refusal("keys", 9), ..node("n3", 1) };
    plane.set_nodes(vec![keys.clone()]);
    fgctl(&plane, &apply).result.expect("it has it");

    let refusing = v1::Node { refusal: refusal("config", 1), ..node("n2", 0) };
    plane.set_nodes(vec![node("n1", 1), refusing, keys]);
    let ran = fgctl(&plane, &apply);
    insta::assert_snapshot!(ran.err, @"2 of 3 connected nodes have revision 1");
    insta::assert_snapshot!(ran.result.expect_err("refused").report(), @r"
    error: it is stored, but not all nodes take revision 1: n2 refuses it: route users: path: is odd, is odd, 7 more
      they keep what they had: mend it, or go back with fgctl config rollback
    ");

    let earlier = v1::Node { refusal: refusal("config", 0), ..node("n2", 0) };
    plane.set_nodes(vec![earlier]);
    let ran = fgctl(&plane, &apply.replace("=30", "=1")).result.expect_err("behind");
    assert!(ran.to_string().ends_with("not all nodes have revision 1: n2 is at 0"), "{ran}");
}

/// The rollout of the first revision, as it was after its first ring.
fn rollout(state: v1::rollout::State) -> v1::Rollout {
    let moved_at = Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 });
    let ring = |name: &str, nodes_done, requests| v1::RingStatus {
        name: name.into(),
        nodes: 2,
        nodes_done,
        requests,
        error_rate: 0.075,
        p99_ms: 12.34,
        ..v1::RingStatus::default()
    };
    v1::Rollout {
        environment: "default".into(),
        state: state.into(),
        target_revision: 1,
        ring: "canary".into(),
        moved_at,
        rings: vec![ring("canary", 2, 40), ring("rest\u{1b}", 0, 0)],
        ..v1::Rollout::default()
    }
}

#[test]
fn a_rollout_is_told_ring_by_ring() {
    use v1::rollout::State::Running;
    let plane = Plane::start();
    let none = fgctl(&plane, "rollout status").result.expect_err("none yet");
    assert_eq!((none.exit_code(), &*none.to_string()), (1, "rollout 'default' does not exist"));
    plane.set_rollout(rollout(Running));
    let ran = fgctl(&plane, "rollout status");
    ran.result.expect("told");
    insta::assert_snapshot!(ran.out, @r"
    revision 1, from 0, is in ring canary since 2026-09-21T14:13:20Z
    RING        NODES DONE  REQUESTS  ERRORS  P99 MS  ERRORS BEFORE  P99 MS BEFORE
    canary      2 of 2      40        7.5 %   12.3
    rest\u{1b}  0 of 2      0
    ");
    let ran = fgctl(&plane, "rollout pause -o json");
    ran.result.expect("paused");
    let answer: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(
        (&answer["state"], &answer["rings"][0]["nodes"]),
        (&"STATE_PAUSED".into(), &2.into())
    );
    let refused = fgctl(&plane, "rollout resume").result.expect_err("it runs");
    assert!(refused.report().contains("can't be resumed: it is running"));
}

#[test]
fn waiting_for_a_rollout_tells_its_rings_and_ends_when_it_is_taken_back() {
    use v1::rollout::State::{RolledBack, Running};
    let plane = Plane::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, DOCUMENT.replace("ftp://nowhere", "http://a")).expect("written");
    let apply = format!("apply -f {} --wait=1", path.display());

    plane.set_rollout(rollout(Running));
    plane.set_nodes(vec![node("n1", 1), node("n2", 0)]);
    let ran = fgctl(&plane, &apply);
    insta::assert_snapshot!(ran.err, @r"
    revision 1, from 0, is in ring canary since 2026-09-21T14:13:20Z
    1 of 2 connected nodes have revision 1
    ");
    assert!(matches!(ran.result, Err(Error::Behind { .. })));

    // What takes it back is a later revision, which all nodes have.
    plane.set_rollout(v1::Rollout { reason: "it failed".into(), ..rollout(RolledBack) });
    plane.set_nodes(vec![node("n1", 2), node("n2", 2)]);
    let report = fgctl(&plane, &apply).result.expect_err("it is gone").report();
    insta::assert_snapshot!(report, @"error: it was stored as revision 1, but taken back: revision 1, from 0, is rolled back from ring canary since 2026-09-21T14:13:20Z: it failed");

    // That of another change says nothing of this one.
    plane.set_rollout(v1::Rollout { target_revision: 0, ..rollout(RolledBack) });
    fgctl(&plane, &apply).result.expect("all have it");
}

#[test]
fn plans_stand_in_documents_like_upstreams() {
    let plane = Plane::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("plans.yaml");
    std::fs::write(&path, "plans:\n- plan_id: gold\n  rate_limit: 60\n").expect("written");
    let ran = fgctl(&plane, &format!("apply -f {}", path.display()));
    ran.result.expect("applied");
    assert_eq!(ran.out, "plan gold created\napplied as revision 1\n");
    let exported = fgctl(&plane, "export").out;
    assert_eq!(exported, "environment: default\nplans:\n- plan_id: gold\n  rate_limit: 60\n");

    std::fs::write(&path, exported.replace("60", "120")).expect("written");
    let ran = fgctl(&plane, &format!("diff -f {}", path.display()));
    assert_eq!(ran.result.expect("a diff"), Outcome::Differs);
    insta::assert_snapshot!(ran.out, @r"
    --- plan/gold (stored)
    +++ plan/gold (document)
    @@ -1,2 +1,2 @@
     plan_id: gold
    -rate_limit: 60
    +rate_limit: 120
    ");
}

#[test]
fn a_document_for_another_environment_is_refused() {
    let plane = Plane::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, "environment: staging\nroutes: []\n").expect("written");
    let file = path.display();
    fgctl(&plane, &format!("apply -f {file} -e staging")).result.expect("the same");
    fgctl(&plane, &format!("apply -f {file}")).result.expect("the document's");
    let error = fgctl(&plane, &format!("apply -f {file} -e default")).result.expect_err("two");
    assert!(error.to_string().contains("'staging'"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn completions_know_the_commands() {
    let plane = Plane::start();
    for shell in ["bash", "zsh", "fish"] {
        let script = fgctl(&plane, &format!("completions {shell}")).out;
        assert!(script.contains("upstreams") && script.contains("token-file"), "{shell}");
    }
}

#[test]
fn what_clients_sent_drives_no_terminal() {
    let plane = Plane::start();
    for line in [
        "logs list",
        "logs list -o json",
        "logs list -o yaml",
        "logs tail",
        "logs tail -f",
        "logs tail -f -o json",
        "logs tail -o yaml",
        "metrics",
        "metrics -o json",
    ] {
        let ran = fgctl(&plane, line);
        ran.result.expect("shown");
        let is_harmful = |c: char| c != '\n' && fastgate::escape::is_unsafe(c);
        assert!(!ran.out.contains(is_harmful), "{line}: {:?}", ran.out);
    }
    let ran = fgctl(&plane, "logs tail --follow");
    insta::assert_snapshot!(ran.out, @r"
    2026-09-21T14:13:20.123Z  200  GET  /\u{1b}[2J\u{9b}2J\r\n\u{202e}x  1.2  r1
    2026-09-21T14:13:20.123Z  200  GET  /a  1.2  r2
    ");
    assert_eq!(ran.err, "7 events are not shown: they are too many or too large\n");
    let ran = fgctl(&plane, "logs tail -o json");
    let requests: Vec<_> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("json"))
        .map(|event| event["request_id"].clone())
        .collect();
    assert_eq!(requests, ["r1", "r2"], "the newest below");
}

#[test]
fn gaps_say_which_events_of_which_start_are_lost() {
    let plane = Plane::start();
    let ran = fgctl(&plane, "logs gaps --node-id node-1");
    insta::assert_snapshot!(ran.out, @r"
    TIME                      NODE ID  BOOT ID      FROM  TO  EVENTS  REASON
    2026-09-21T14:13:20.123Z  node-1   boot\u{1b}1  5     6   2       killed
    ");
    let ran = fgctl(&plane, "logs gaps --node-id sound");
    assert_eq!((&*ran.out, &*ran.err), ("", "no gaps: no event is known to be lost\n"));
}

#[test]
fn every_filter_of_logs_is_sent() {
    let plane = Plane::start();
    let filters = "--key-id echo --source-path a --path-prefix b --path-contains c --method get \
        --status 4xx --error d --request-id e --route-id f --target-url g --node-id h \
        --ip-address i --user-agent-contains j --rate-limited --secret-version 1 --min-attempts 2 \
        --min-response-time-ms 3 --min-upstream-time-ms 4 --min-ttfb-ms 5 --min-request-size 6 \
        --min-response-size 7 --since 2026-01-01T00:00:00Z --until 2026-01-02T00:00:00Z";
    let filters = filters.split_whitespace().collect::<Vec<_>>().join(" ");
    let ran = fgctl(&plane, &format!("logs list {filters} -o json"));
    ran.result.expect("listed");
    let answer: serde_json::Value = serde_json::from_str(&ran.out).expect("json");
    let listed = answer["logs"][0]["user_agent"].as_str().expect("what was asked").to_owned();
    let ran = fgctl(&plane, &format!("logs export --format csv {filters}"));
    ran.result.expect("exported");
    assert!(ran.out.ends_with("\nend\n"), "{}", ran.out);
    for asked in [
        "source_path: \"a\"",
        "path_prefix: \"b\"",
        "path_contains: \"c\"",
        "method: \"GET\"",
        "status_code: \"4xx\"",
        "error: \"d\"",
        "request_id: \"e\"",
        "route_id: \"f\"",
        "target_url: \"g\"",
        "node_id: \"h\"",
        "ip_address: \"i\"",
        "user_agent_contains: \"j\"",
        "rate_limited: Some(true)",
        "secret_version: Some(1)",
        "min_attempts: 2",
        "min_response_time_ms: 3.0",
        "min_upstream_time_ms: 4.0",
        "min_ttfb_ms: 5.0",
        "min_request_size: 6",
        "min_response_size: 7",
        "seconds: 1767225600",
        "seconds: 1767312000",
    ] {
        assert!(listed.contains(asked), "{asked}: {listed}");
        assert!(ran.out.contains(asked), "{asked}: {}", ran.out);
    }
}

#[test]
fn metrics_are_a_line_a_step_and_a_table_a_top() {
    let plane = Plane::start();
    insta::assert_snapshot!(fgctl(&plane, "metrics --step hour").out, @r"
    TIME                  REQUESTS  4XX  5XX  ERRORS  LIMITED  P50 MS  P90 MS  P99 MS  BYTES IN  BYTES OUT
    2026-09-21T14:13:20Z  8         2    1    12.50%  1        1.2     9.0     10.0    10        20
    all                   8         2    1    12.50%  1        1.2     9.0     10.0    10        20

    KEY ID  REQUESTS  4XX  5XX  ERRORS  LIMITED  P50 MS  P90 MS  P99 MS  BYTES IN  BYTES OUT
    key-1   8         2    1    12.50%  1        1.2     9.0     10.0    10        20

    ERROR              REQUESTS  4XX  5XX  ERRORS  LIMITED  P50 MS  P90 MS  P99 MS  BYTES IN  BYTES OUT
    key\u{1b}_revoked  8         2    1    12.50%  1        1.2     9.0     10.0    10        20
    ");
    let ran = fgctl(&plane, "metrics --key-id idle");
    ran.result.expect("shown");
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "no requests in this time\n"));
}

#[test]
fn an_explanation_is_told_in_tables_and_a_key_comes_from_a_file() {
    let plane = Plane::start();
    let dir = tempfile::tempdir().expect("a folder");
    let key_file = dir.path().join("key");
    std::fs::write(&key_file, "fg_secret\n").expect("written");
    let line = format!(
        "explain GET /orders -H X-Tenant:~acme --key-file {} --from 192.0.2.1",
        key_file.display()
    );
    let ran = fgctl(&plane, &line);
    ran.result.expect("explained");
    insta::assert_snapshot!(ran.out, @r"
    request  GET /orders
    from     192.0.2.1
    node     n1 (keys revision 3, config revision 4)
    key      k1: valid, of X-Tenant(4)+X-API-Key(9)
    outcome  403 permission_missing: key 'k1' does not hold orders:read

    ROUTE       HOST  PATH       METHODS  PRIORITY  OUTCOME   WHY
    orders      *     /orders/*  *        0         taken
    writes      *     /orders/*  *        0         no match  is for PUT\u{1b}[2J
    and 5 more

    PERMISSION   HELD AS
    orders:read  missing

    LIMIT  ADMITS     REMAINING  RESET  COUNTED BY  REQUEST
           60/minute  7          0s                 passes

    TARGET      SHARE  ASKED FOR
    http://a:1  70 %   http://a:1/orders
    ");
    let ran = fgctl(&plane, "explain GET /orders --node n2 -o json");
    let said: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((&said["node_id"], &said["error"]), (&"n2".into(), &"permission_missing".into()));
    std::fs::write(&key_file, "\n").expect("written");
    let empty = fgctl(&plane, &line).result.expect_err("refused").report();
    assert!(empty.contains("is empty: put the secret of an API key into it"), "{empty}");
}
