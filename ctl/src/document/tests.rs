//! Documents, and every fault one can have.

use std::fmt::Write as _;

use fastgate::model;

use super::*;

fn source(name: &str, text: &str) -> Source {
    Source { name: name.into(), text: text.into() }
}

fn parse(text: &str) -> Result<Document, Error> {
    Document::parse(&[source("gateway.yaml", text)])
}

const WEIGHTED: &str = r#"
routes:
  - path: "/api/v1/users"
    methods: ["GET", "POST"]
    targets:
      - url: "http://user-service:8001"
        weight: 70
      - url: "http://user-service-backup:8001"
        weight: 30
    timeout: 30
    retry_count: 3
"#;

const NAMED: &str = r#"
routes:
  - name: "用户服务"
    path_prefix: "/api/v1/users"
    targets:
      - url: "http://localhost:8001"
        timeout: 30
    auth_required: true
  - name: "订单服务"
    path_prefix: "/api/v1/orders"
    targets:
      - url: "http://localhost:8002"
        timeout: 45
    auth_required: true
    rate_limit: 200            # requests per minute
"#;

#[test]
fn both_shapes_are_read_unchanged() {
    let config = parse(WEIGHTED).expect("valid").config;
    let route = &config.routes[0];
    assert_eq!(
        (route.path.as_str(), route.timeout, route.retry_count),
        ("/api/v1/users", Some(30.0), Some(3))
    );
    assert_eq!(route.methods, ["GET", "POST"]);
    let weights: Vec<_> = route.targets.iter().map(|target| target.weight).collect();
    assert_eq!(weights, [Some(70), Some(30)]);

    let config = parse(NAMED).expect("valid").config;
    assert_eq!(config.routes[0].name, "用户服务");
    assert_eq!(config.routes[1].targets[0].timeout, Some(45.0));
    assert_eq!(
        (config.routes[1].rate_limit, config.routes[1].auth_required),
        (Some(200), Some(true))
    );
}

#[test]
fn the_example_is_valid() {
    let text = include_str!("../../../deploy/examples/routes.yaml");
    let config = parse(text).expect("a document").config;
    for plan in &config.plans {
        model::Plan::parse(plan).expect("a valid plan");
    }
    for upstream in &config.upstreams {
        model::Upstream::parse(upstream).expect("a valid upstream");
    }
    for mut route in config.routes {
        assert!(!route.name.is_empty());
        // The control plane gives it one.
        route.route_id = "made-up".into();
        let route = model::Route::parse(&route).expect("a valid route");
        if let model::Destination::Upstream(named) = route.destination {
            assert!(config.upstreams.iter().any(|upstream| upstream.upstream_id == named.as_str()));
        }
    }
}

#[test]
fn json_is_read_like_yaml() {
    let text = "{\"routes\": [\n\t{\"path\": \"\\/a\", \"timeout\": 0.5,\n\t \"priority\": -1}]}";
    let config = parse(text).expect("valid").config;
    assert_eq!((config.routes[0].timeout, config.routes[0].priority), (Some(0.5), -1));
}

#[test]
fn every_fault_names_file_line_and_field() {
    let mut told = String::new();
    for text in [
        "routes:\n  - path: /a\n    # a remark\n    metods: [GET]\n",
        "rotues: []\n",
        "listen: 80\n",
        "routes:\n  - path: /a\n    targets:\n      - url: http://a\n        wait: 3\n    pathPrefix: /b\n",
        "routes:\n  - path: /a\n    timeout: soon\n",
        "routes:\n  - path: /a\n    retry_count: 3.5\n",
        "routes:\n  - path: /a\n    retry_count: .inf\n",
        "routes:\n  - path: /a\n    retry_count: 99999999999\n",
        "routes:\n  - path: /a\n    rate_limit: 18446744073709551615\n",
        "plans:\n  - plan_id: a\n    limits:\n      - name: b\n        amount: 18446744073709551615\n",
        "routes:\n  - path: /a\n    auth_required: yes\n",
        "routes:\n  - path: /a\n    targets: http://a\n",
        "routes:\n  - path: /a\n    targets:\n      url: http://a\n",
        "routes:\n  - path: [/a]\n",
        "routes:\n  - path: {a: 1}\n    methods: [[GET]]\n",
        "routes:\n  - /a\n",
        "routes:\n  -\n",
        "routes:\n  - path: /a\n    created_at: yesterday\n",
        "routes:\n  - path: /a\n    path: /b\n",
        "routes:\n  - path: /a\n   name: b\n",
        "routes: [\n",
        "routes: *nowhere\n",
        "routes: []\n---\nroutes: []\n",
        "",
        "# nothing\n",
        "- path: /a\n",
        "hello",
        "routes:\n  - name: \"\u{7}\"\n",
    ] {
        let error = parse(text).expect_err("a fault");
        let _ = writeln!(told, "{error}");
    }
    insta::assert_snapshot!(told, @r"
    gateway.yaml:4: unknown field 'metods' in routes[0], did you mean 'methods'?
    gateway.yaml:1: unknown field 'rotues' in the document, did you mean 'routes'?
    gateway.yaml:1: unknown field 'listen' in the document, known are environment, upstreams, routes, plans
    gateway.yaml:5: unknown field 'wait' in routes[0].targets[0], did you mean 'weight'?
           gateway.yaml:6: unknown field 'pathPrefix' in routes[0], did you mean 'path_prefix'?
    gateway.yaml:3: routes[0].timeout must be a number
    gateway.yaml:3: routes[0].retry_count must be a whole number of at most 32 bits
    gateway.yaml:3: routes[0].retry_count must be a whole number of at most 32 bits
    gateway.yaml:3: routes[0].retry_count must be a whole number of at most 32 bits
    gateway.yaml:3: routes[0].rate_limit must be a whole number from 1 to 1000000000
    gateway.yaml:5: plans[0].limits[0].amount must be a whole number from 1 to 1000000000, to 1000000000000 of a day or month
    gateway.yaml:3: routes[0].auth_required must be true or false
    gateway.yaml:3: routes[0].targets must be a list
    gateway.yaml:3: routes[0].targets must be a list
    gateway.yaml:2: routes[0].path must be a text
    gateway.yaml:2: routes[0].path must be a text
           gateway.yaml:3: routes[0].methods[0] must be a text
    gateway.yaml:2: routes[0] must be a mapping of fields
    gateway.yaml:2: routes[0] is empty
    gateway.yaml:3: routes[0].created_at must be a time such as 2026-11-23T07:00:00Z
    gateway.yaml:3: field 'path' stands here a second time: keep one
    gateway.yaml:3: while parsing a block collection, did not find expected '-' indicator
    gateway.yaml:1: unclosed bracket '['
    gateway.yaml:1: alias references unknown anchor
    gateway.yaml:3: a second document begins: put it into its own file
    gateway.yaml: is empty: give 'routes', 'upstreams' or 'plans'
    gateway.yaml: is empty: give 'routes', 'upstreams' or 'plans'
    gateway.yaml:1: must begin with 'routes:', 'upstreams:' or 'plans:'
    gateway.yaml:1: must begin with 'routes:', 'upstreams:' or 'plans:'
    gateway.yaml:2: unexpected character: `\u{7}'
    ");
}

#[test]
fn a_number_without_end_is_for_the_control_plane_to_refuse() {
    let config = parse("routes:\n  - path: /a\n    timeout: .inf\n").expect("read").config;
    assert_eq!(config.routes[0].timeout, Some(f64::INFINITY));
}

#[test]
fn anchors_that_unfold_without_end_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..9 {
        let tens = vec![format!("*a{}", n - 1); 10].join(", ");
        let _ = writeln!(text, "a{n}: &a{n} [{tens}]");
    }
    let told = parse(&text).expect_err("too much").to_string();
    assert_eq!(
        told,
        "gateway.yaml:5: holds more than can be read: split it, nest less, or write out anchors"
    );
}

#[test]
fn what_the_control_plane_finds_is_placed_in_its_file() {
    let first = source("a.yaml", WEIGHTED);
    let second =
        source("b.yaml", &format!("{NAMED}plans:\n  - plan_id: gold\n    rate_limit: 0\n"));
    let document = Document::parse(&[first, second]).expect("valid");
    for (field, place) in [
        ("routes[0].targets[1].weight", "a.yaml:9: routes[0].targets[1].weight"),
        ("config.routes[2].targets[0].url", "b.yaml:12: routes[1].targets[0].url"),
        ("routes[1].upstream", "b.yaml:3: routes[0].upstream"),
        ("plans[0].rate_limit", "b.yaml:18: plans[0].rate_limit"),
        ("routes[3].path", "routes[3].path"),
        ("environment", "environment"),
    ] {
        assert_eq!(document.place(field), place);
    }
}

#[test]
fn documents_of_two_environments_do_not_mix() {
    let first = source("a.yaml", "environment: staging\n");
    let second = source("b.yaml", "routes: []\nenvironment: default\n");
    let third = source("c.yaml", "routes: []\n");
    let error = Document::parse(&[first, second, third]).expect_err("two environments");
    let text = error.to_string();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "b.yaml:2: environment is 'default' here and 'staging' in a.yaml: name the same in all, \
             or apply them apart",
            "c.yaml: environment is not named here and 'staging' in a.yaml: name the same in all, \
             or apply them apart",
        ]
    );
}

#[test]
fn a_document_of_aliases_is_bounded() {
    let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (name, of) in ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip("abcdefgh".chars()) {
        let _ = writeln!(
            bomb,
            "{name}: &{name} [*{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}]"
        );
    }
    assert!(parse(&bomb).is_err());
}

#[test]
fn files_are_read_in_order_and_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for (name, text) in
        [("b.yml", "routes: []"), ("a.json", "{}"), ("c.txt", "no"), ("bad", "\n\n")]
    {
        std::fs::write(path(name), text).expect("written");
    }
    let mut input = &b"upstreams: []"[..];
    let sources = read(&[folder.path().into(), "-".into()], &mut input).expect("read");
    let names: Vec<_> = sources.iter().map(|source| source.name.rsplit('/').next()).collect();
    assert_eq!(names, [Some("a.json"), Some("b.yml"), Some("<stdin>")]);

    std::fs::write(path("bad"), b"a\n\xff").expect("written");
    let told = |name: &str| read(&[path(name)], &mut &b""[..]).expect_err("bad").to_string();
    assert!(told("bad").contains("line 2 is not UTF-8"), "{}", told("bad"));
    assert!(told("none").contains("No such file"), "{}", told("none"));
    let mut endless = std::io::repeat(b' ');
    let error = read(&["-".into()], &mut endless).expect_err("too large").to_string();
    assert!(error.contains("larger than 16 MiB"), "{error}");
}
