//! Documents against stored routes.

use std::time::SystemTime;

use fastgate::admin::v1::Target;

use super::*;

fn route(change: impl FnOnce(&mut v1::Route)) -> v1::Route {
    let targets = vec![Target { url: "http://localhost:1".into(), ..Target::default() }];
    let mut route = v1::Route { path: "/a".into(), targets, ..v1::Route::default() };
    change(&mut route);
    route
}

fn held(routes: &[v1::Route]) -> Held {
    let stored = |wire: &v1::Route| Stored {
        object: Route::parse(wire.clone()).expect("a valid route"),
        created_at: SystemTime::UNIX_EPOCH,
        updated_at: SystemTime::UNIX_EPOCH,
        etag: "1".into(),
    };
    Held { revision: 1, routes: routes.iter().map(stored).collect(), ..Held::default() }
}

fn diff_routes(document: &[v1::Route], stored: &[v1::Route]) -> Result<Vec<Step>, Error> {
    let document = v1::Config { routes: document.to_vec(), ..v1::Config::default() };
    diff_config(document, held(stored), false)
}

fn diff_config(document: v1::Config, held: Held, prune: bool) -> Result<Vec<Step>, Error> {
    diff(&Id::parse("default").expect("an id"), document, held, prune, &Selector::default())
}

/// Created and updated routes by id; a made-up id reads `new`.
fn ids(steps: &[Step]) -> Vec<(&'static str, String)> {
    let one = |step: &Step| match step {
        Step::Route { before, after, made_up } => {
            let id = after.model.route_id.to_string();
            let what = if before.is_some() { "update" } else { "create" };
            (what, if *made_up { "new".into() } else { id })
        }
        Step::Upstream { after, .. } => ("upstream", after.model.upstream_id.to_string()),
        Step::Plan { before, after } => {
            let what = if before.is_some() { "update plan" } else { "create plan" };
            (what, after.model.plan_id.to_string())
        }
        Step::DeleteRoute(gone) => ("delete", gone.object.model.route_id.to_string()),
        Step::DeleteUpstream(gone) => ("delete upstream", gone.object.id().to_string()),
        Step::DeletePlan(gone) => ("delete plan", gone.object.id().to_string()),
    };
    steps.iter().map(one).collect()
}

fn faulty_fields(document: &[v1::Route], stored: &[v1::Route]) -> Vec<String> {
    match diff_routes(document, stored) {
        Err(Error::Invalid(faults)) => faults.iter().map(|f| f.field.clone()).collect(),
        _ => panic!("no faults found"),
    }
}

#[test]
fn a_route_is_known_by_id_then_name_then_what_it_matches() {
    let stored = [
        route(|r| r.route_id = "by-id".into()),
        route(|r| {
            r.route_id = "by-name".into();
            r.name = "orders".into();
            r.path = "/b".into();
        }),
        route(|r| {
            r.route_id = "by-match".into();
            r.path = "/c".into();
            r.methods = vec!["GET".into(), "PUT".into()];
        }),
    ];
    let document = [
        route(|r| {
            r.route_id = "by-id".into();
            r.path = "/x".into();
        }),
        route(|r| {
            r.name = "orders".into();
            r.path = "/y".into();
        }),
        route(|r| {
            r.path = "/c".into();
            r.methods = vec!["PUT".into(), "GET".into()];
            r.timeout = Some(5.0);
        }),
        route(|r| r.path = "/new".into()),
    ];
    let steps = diff_routes(&document, &stored).expect("a diff");
    let expected =
        [("update", "by-id"), ("update", "by-name"), ("update", "by-match"), ("create", "new")];
    assert_eq!(ids(&steps), expected.map(|(what, id)| (what, id.to_owned())));
}

#[test]
fn the_same_document_again_changes_nothing() {
    let stored = [
        route(|r| r.route_id = "one".into()),
        route(|r| {
            r.route_id = "two".into();
            r.priority = 5;
        }),
    ];
    // Without ids, and in another order: priority tells them apart.
    let document = [route(|r| r.priority = 5), route(|_| {})];
    assert!(diff_routes(&document, &stored).expect("a diff").is_empty());
}

#[test]
fn a_stored_route_is_found_once() {
    let stored = [route(|r| r.route_id = "one".into())];
    let claimed = route(|r| {
        r.route_id = "one".into();
        r.path = "/moved".into();
    });
    let steps = diff_routes(&[route(|_| {}), claimed], &stored).expect("a diff");
    assert_eq!(ids(&steps), [("create", "new".into()), ("update", "one".into())]);
}

#[test]
fn clashes_name_both_sides() {
    let named = |name: &'static str, path: &'static str| {
        route(move |r| {
            r.name = name.into();
            r.path = path.into();
        })
    };
    let with_id = |id: &'static str, path: &'static str| {
        route(move |r| {
            r.route_id = id.into();
            r.path = path.into();
        })
    };
    let prefix = route(|r| {
        r.path = String::new();
        r.path_prefix = "/p".into();
    });
    let stored_name = route(|r| {
        r.route_id = "s".into();
        r.name = "n".into();
    });
    for (document, stored, field) in [
        (vec![named("n", "/a"), named("n", "/b")], vec![], "routes[1].name"),
        (vec![with_id("i", "/a"), with_id("i", "/b")], vec![], "routes[1].route_id"),
        (vec![route(|_| {}), route(|_| {})], vec![], "routes[1].path"),
        (vec![prefix.clone(), prefix], vec![], "routes[1].path_prefix"),
        // With stored routes the document leaves alone.
        (vec![with_id("i", "/a")], vec![with_id("s", "/a")], "routes[0].path"),
        (
            vec![route(|r| {
                r.route_id = "i".into();
                r.name = "n".into();
                r.path = "/z".into();
            })],
            vec![stored_name],
            "routes[0].name",
        ),
    ] {
        assert_eq!(faulty_fields(&document, &stored), [field]);
    }
}

#[test]
fn faults_of_all_routes_come_at_once_with_their_places() {
    let document = [
        route(|r| r.timeout = Some(-1.0)),
        route(|r| r.path = "/b".into()),
        route(|r| {
            r.path = "/c".into();
            r.targets[0].url = "nope".into();
        }),
        route(|r| {
            r.path = "/d".into();
            r.targets.clear();
            r.upstream = "gone".into();
        }),
        route(|r| {
            r.path = "/e".into();
            r.environment = "other".into();
        }),
    ];
    let fields = faulty_fields(&document, &[]);
    let expected = [
        "routes[0].timeout",
        "routes[2].targets[0].url",
        "routes[3].upstream",
        "routes[4].environment",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn plans_are_known_by_their_ids() {
    let plan = |id: &str, rate: i64| v1::Plan {
        plan_id: id.into(),
        rate_limit: Some(rate),
        ..v1::Plan::default()
    };
    let stored = |wire: v1::Plan| Stored {
        object: Plan::parse(wire).expect("a valid plan"),
        created_at: SystemTime::UNIX_EPOCH,
        updated_at: SystemTime::UNIX_EPOCH,
        etag: "1".into(),
    };
    let with = |plans: Vec<v1::Plan>| {
        let held = Held { plans: vec![stored(plan("gold", 60))], ..held(&[]) };
        diff_config(v1::Config { plans, ..v1::Config::default() }, held, false)
    };
    assert!(with(vec![plan("gold", 60)]).expect("a diff").is_empty());
    let steps = with(vec![plan("free", 1), plan("gold", 120)]).expect("a diff");
    let expected = [("create plan", "free"), ("update plan", "gold")];
    assert_eq!(ids(&steps), expected.map(|(what, id)| (what, id.to_owned())));
    for (plans, field) in [
        (vec![plan("gold", 0)], "plans[0].rate_limit"),
        (vec![plan("gold", 1), plan("gold", 2)], "plans[1].plan_id"),
        (vec![v1::Plan { environment: "other".into(), ..plan("gold", 1) }], "plans[0].environment"),
    ] {
        let Err(Error::Invalid(faults)) = with(plans) else { panic!("{field}: no faults") };
        assert_eq!(faults.iter().map(|fault| &*fault.field).collect::<Vec<_>>(), [field]);
    }
    let stale = with(vec![v1::Plan { etag: "0".into(), ..plan("gold", 1) }]);
    assert!(matches!(stale, Err(Error::Stale { field, .. }) if field == "plans[0].etag"));
}

#[test]
fn what_a_document_does_not_hold_goes_where_that_is_asked_for() {
    let named = |id: &str, path: &str| {
        route(|r| {
            r.route_id = id.into();
            r.path = path.into();
        })
    };
    let stored = || held(&[named("one", "/a"), named("two", "/b")]);
    let with = |document: &[v1::Route], prune| {
        let document = v1::Config { routes: document.to_vec(), ..v1::Config::default() };
        diff_config(document, stored(), prune).map(|steps| ids(&steps))
    };
    assert_eq!(with(&[named("one", "/a")], false).expect("a diff"), []);
    assert_eq!(with(&[named("one", "/a")], true).expect("a diff"), [("delete", "two".into())]);
    // A route known by what it matches stays; one may take the place of another that goes.
    assert_eq!(with(&[route(|_| {})], true).expect("a diff"), [("delete", "two".into())]);
    let steps = with(&[named("one", "/a"), named("three", "/b")], true).expect("a diff");
    assert_eq!(steps, [("create", "three".into()), ("delete", "two".into())]);
    assert!(with(&[named("one", "/a"), named("three", "/b")], false).is_err());
}

#[test]
fn no_document_deletes_much_unasked() {
    let named = |at: usize| {
        route(|r| {
            r.route_id = format!("route-{at}");
            r.path = format!("/{at}");
        })
    };
    let all: Vec<_> = (0..60).map(named).collect();
    for (gone, told) in [(10, false), (12, false), (13, true), (60, true)] {
        let document = v1::Config { routes: all[gone..].to_vec(), ..v1::Config::default() };
        let steps = diff_config(document, held(&all), true).expect("a diff");
        let checked = check_jump(&steps, all.len());
        assert_eq!(checked.is_err(), told, "{gone} of 60");
        let few = check_jump(&steps, 11);
        assert_eq!(few.is_err(), gone > 10, "{gone} of 11");
    }
}

#[test]
fn a_stale_etag_is_refused() {
    let stored = [route(|r| r.route_id = "one".into())];
    let with_etag = |etag: &str| {
        route(|r| {
            r.etag = etag.into();
            r.timeout = Some(9.0);
        })
    };
    assert!(diff_routes(&[with_etag("1")], &stored).is_ok());
    let stale = diff_routes(&[with_etag("0")], &stored);
    assert!(matches!(stale, Err(Error::Stale { field, .. }) if field == "routes[0].etag"));
}

#[test]
fn a_selector_leaves_all_others_alone() {
    let labelled = |id: &str, path: &str, team: &str| {
        route(|route| {
            route.route_id = id.into();
            route.path = path.into();
            if !team.is_empty() {
                route.labels = [("team".to_owned(), team.to_owned())].into();
            }
        })
    };
    let stored = [
        labelled("changed", "/changed", "a"),
        labelled("gone", "/gone", "a"),
        labelled("moved", "/moved", "a"),
        labelled("other", "/other", "b"),
        labelled("bare", "/bare", ""),
    ];
    let document = v1::Config {
        routes: vec![
            labelled("changed", "/changed-now", "a"),
            labelled("new", "/new", "a"),
            // It is another team's from now on, which this document is not applied for.
            labelled("moved", "/moved", "b"),
            labelled("other", "/other-now", "b"),
        ],
        ..v1::Config::default()
    };
    let look = |selector: &str, prune| {
        let environment = Id::parse("default").expect("an id");
        let meant = selector.parse().expect("a selector");
        let steps = diff(&environment, document.clone(), held(&stored), prune, &meant);
        let name = |step: &Step| match step {
            Step::Route { before: None, after, .. } => format!("+{}", after.model.route_id),
            Step::Route { after, .. } => format!("~{}", after.model.route_id),
            Step::DeleteRoute(gone) => format!("-{}", gone.object.model.route_id),
            _ => panic!("no route"),
        };
        steps.expect("no fault").iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(look("team=a", false), ["~changed", "+new"]);
    assert_eq!(look("team=a", true), ["~changed", "+new", "-gone"]);
    assert_eq!(look("team!=a", true), ["~moved", "~other", "-bare"]);
    assert_eq!(look("", true), ["~changed", "+new", "~moved", "~other", "-gone", "-bare"]);
}
