//! Documents as a whole: environments that hold what they say and nothing else.

use serde_json::json;

use crate::support::{Gate, Upstream};

#[tokio::test]
async fn sync_deletes_what_is_left_over_and_only_with_consent() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(2).start().await;
    let write = |name: &str, document: serde_json::Value| {
        let file = gate.dir().join(name);
        std::fs::write(&file, document.to_string()).expect("a file");
        file.to_str().expect("text").to_owned()
    };
    let route = |id: &str| {
        json!({
            "route_id": id, "path_prefix": format!("/{id}"), "auth_required": false,
            "targets": [{"url": upstream.url}],
        })
    };
    let both = write("both.json", json!({"routes": [route("a"), route("b")]}));
    let one = write("one.json", json!({"routes": [route("a")]}));
    let status = async |path: &str| gate.nodes[1].proxy.get(path).await.status.as_u16();

    let out = gate.fgctl(&["config", "sync", "-f", &both, "--wait"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!((status("/a").await, status("/b").await), (200, 200), "no node is waited for twice");

    let before = gate.revisions().await;
    let out = gate.fgctl(&["config", "sync", "-f", &one]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("1 object would be deleted, and nothing was changed: route b"), "{said}");
    assert_eq!(gate.fgctl(&["config", "diff", "-f", &one]).status.code(), Some(0));
    assert_eq!(gate.fgctl(&["config", "diff", "--prune", "-f", &one]).status.code(), Some(2));
    assert_eq!(gate.revisions().await, before);

    let out = gate.fgctl(&["config", "sync", "-f", &one, "--yes", "--wait=20"]);
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{told}");
    assert!(
        told.contains(&format!("2 of 2 connected nodes have revision {}", before.1 + 1)),
        "{told}"
    );
    assert_eq!((status("/a").await, status("/b").await), (200, 404));

    // An empty document is more likely a mistake than meant, where there is much to lose.
    let many: Vec<_> = (0..12).map(|at| route(&format!("r{at}"))).collect();
    let many = write("many.json", json!({"routes": many}));
    assert!(gate.fgctl(&["apply", "-f", &many]).status.success());
    let had_one = (before.1 + 1).to_string();
    let out = gate.fgctl(&["config", "rollback", &had_one]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("12 of 13 objects would be deleted"), "{said}");
    assert!(gate.fgctl(&["config", "rollback", &had_one, "--force"]).status.success());
    assert!(gate.fgctl(&["apply", "-f", &many]).status.success());
    let empty = write("empty.json", json!({"routes": []}));
    let out = gate.fgctl(&["config", "sync", "-f", &empty, "--yes"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("13 of 13 objects would be deleted"), "{said}");
    assert!(gate.fgctl(&["config", "sync", "-f", &empty, "--yes", "--force"]).status.success());
    let left = gate.admin.get("/admin/routes").await.json();
    assert_eq!(left["routes"], json!([]));
}

#[tokio::test]
async fn one_environment_is_promoted_to_another() {
    let gate = Gate::with_nodes(0).start().await;
    for environment in ["staging", "prod"] {
        gate.fgctl_json(&["envs", "create", environment]);
    }
    let create = |environment: &str, id: &str| {
        let (path, target) = (format!("/{id}"), "http://127.0.0.1:1");
        gate.fgctl_json(&[
            "-e",
            environment,
            "routes",
            "create",
            id,
            "--path-prefix",
            &path,
            "--target",
            target,
        ]);
    };
    create("staging", "new");
    create("prod", "old");
    let routes = async || {
        let path = "/admin/routes?environment=prod";
        let listed = gate.admin.get(path).await.json();
        let routes = listed["routes"].as_array().expect("a list").iter();
        let mut ids: Vec<_> =
            routes.map(|r| r["route_id"].as_str().expect("text").to_owned()).collect();
        ids.sort();
        ids
    };
    assert!(gate.fgctl(&["config", "promote", "staging", "prod", "--dry-run"]).status.success());
    assert_eq!(routes().await, ["old"]);
    assert!(gate.fgctl(&["config", "promote", "staging", "prod"]).status.success());
    assert_eq!(routes().await, ["new", "old"]);
    let args = ["config", "promote", "staging", "prod", "--prune"];
    assert_eq!(gate.fgctl(&args).status.code(), Some(2));
    assert!(gate.fgctl(&[&args[..], &["--yes"]].concat()).status.success());
    assert_eq!(routes().await, ["new"]);
    assert_eq!(gate.fgctl(&["config", "promote", "prod", "prod"]).status.code(), Some(2));
}

#[tokio::test]
async fn the_config_goes_back_to_what_it_was_and_says_who_changed_what() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(1).start().await;
    let fgctl = |args: &[&str]| {
        let out = gate.fgctl(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    };
    let target = upstream.url.as_str();
    fgctl(&["upstreams", "create", "up", "--target", target]);
    fgctl(&[
        "routes",
        "create",
        "a",
        "--path-prefix",
        "/a",
        "--upstream",
        "up",
        "--auth-required",
        "false",
    ]);
    let good = fgctl(&["config", "export"]);
    let (_, good_revision) = gate.revisions().await;
    let number = good_revision.to_string();

    fgctl(&["routes", "update", "a", "--path-prefix", "/b"]);
    fgctl(&["routes", "create", "c", "--path-prefix", "/c", "--target", target]);
    fgctl(&["routes", "delete", "a"]);
    fgctl(&["upstreams", "delete", "up"]);
    let now = (good_revision + 4).to_string();
    assert_eq!(fgctl(&["config", "show", &number]), good);

    let diff = gate.fgctl(&["config", "diff", &number, &now]);
    let told = String::from_utf8_lossy(&diff.stdout).into_owned();
    assert_eq!(diff.status.code(), Some(2), "{told}");
    for line in ["--- route/a (before)", "+++ route/c (after)", "--- upstream/up (before)"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let same = gate.fgctl(&["config", "diff", &now, &now]);
    assert_eq!(same.status.code(), Some(0));

    let history = gate.fgctl_json(&["config", "history"]);
    let newest = |at: usize| {
        let revision = &history["revisions"][at];
        let change = &revision["changes"][0];
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        (text(&revision["action"]), text(&change["action"]), text(&change["id"]))
    };
    let of = |service: &str, action: &str, id: &str| {
        (format!("fastgate.admin.v1.{service}"), action.to_owned(), id.to_owned())
    };
    assert_eq!(newest(0), of("UpstreamService/DeleteUpstream", "ACTION_DELETE", "up"));
    assert_eq!(newest(2), of("RouteService/CreateRoute", "ACTION_CREATE", "c"));
    assert_eq!(newest(3), of("RouteService/UpdateRoute", "ACTION_UPDATE", "a"));

    fgctl(&["config", "rollback", &number, "--dry-run"]);
    assert_eq!(gate.revisions().await.1, good_revision + 4);
    fgctl(&["config", "rollback", &number, "--wait"]);
    assert_eq!(gate.revisions().await.1, good_revision + 5, "a new revision");
    assert_eq!(fgctl(&["config", "export"]), good);
    assert_eq!(gate.nodes[0].proxy.get("/a").await.status.as_u16(), 200);
    assert_eq!(fgctl(&["config", "rollback", &number]).lines().count(), 1, "nothing to change");

    for unknown in ["999", "18446744073709551615"] {
        let refused = gate.fgctl(&["config", "rollback", unknown]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(&format!("is {unknown}, which is not in the history")), "{said}");
    }
}

#[tokio::test]
async fn teams_share_an_environment_by_labels() {
    let gate = Gate::with_nodes(0).start().await;
    let fgctl = |args: &[&str], code: i32| {
        let out = gate.fgctl(args);
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {told}");
        String::from_utf8(out.stdout).expect("text") + &told
    };
    let create = |id: &str, label: &str| {
        let path = format!("/{id}");
        let target = "http://127.0.0.1:1";
        let args =
            ["routes", "create", id, "--path-prefix", &path, "--target", target, "--label", label];
        fgctl(&args, 0);
    };
    create("a1", "team=a");
    create("a2", "team=a");
    create("b1", "team=b");
    fgctl(&["upstreams", "create", "shared", "--target", "http://127.0.0.1:1"], 0);

    let own = fgctl(&["export", "-l", "team=a"], 0);
    assert!(own.contains("route_id: a1") && own.contains("team: a"), "{own}");
    assert!(!own.contains("b1") && !own.contains("shared"), "{own}");
    let file = gate.dir().join("a.yaml");
    std::fs::write(&file, own.replace("/a1", "/a1-now").replace("route_id: a2", "route_id: a3"))
        .expect("written");
    let file = file.to_str().expect("text");
    let told = fgctl(&["config", "sync", "-f", file, "-l", "team=a"], 2);
    assert!(
        told.contains("1 object would be deleted, and nothing was changed: route a2"),
        "{told}"
    );
    let told = fgctl(&["config", "sync", "-f", file, "-l", "team=a", "--yes"], 0);
    for done in ["route a1 updated", "route a3 created", "route a2 deleted"] {
        assert!(told.contains(done), "{told}");
    }
    let all = fgctl(&["export"], 0);
    for id in ["a1", "a3", "b1", "shared"] {
        assert!(all.contains(&format!("_id: {id}\n")), "{id}: {all}");
    }
    fgctl(&["diff", "-f", file, "-l", "team=b"], 0);
    fgctl(&["apply", "-f", file, "-l", "team!=a"], 0);
    fgctl(&["diff", "-f", file, "-l", "team=a", "--prune"], 0);
    let told = fgctl(&["export", "-l", "team"], 1);
    assert!(told.contains("write key=value or key!=value"), "{told}");

    let path = "/admin/routes/b1";
    let route = gate.admin.get(path).await.json();
    assert_eq!(route["labels"], json!({"team": "b"}));
    let body = json!({"labels": {"team": "b", "tier": "1"}});
    let route = gate.admin.json(http::Method::PUT, path, body).await;
    assert_eq!(route["labels"], json!({"team": "b", "tier": "1"}));
    let body = json!({"labels": {"team": "no spaces", "tier": 1}}).to_string();
    let refused = gate.admin.send(http::Method::PUT, path, body).await;
    assert_eq!(refused.json()["errors"][0]["field"], "labels.tier", "{refused:?}");
    fgctl(&["routes", "update", "b1", "--clear", "labels"], 0);
    assert_eq!(gate.admin.get(path).await.json()["labels"], json!({}));
}
