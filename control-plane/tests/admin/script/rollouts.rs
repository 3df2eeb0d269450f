//! What users do with the way changes take to the nodes.

use http::Method;
use serde_json::{Value as Json, json};

use super::{CREATE_PLAN, Step, create, get, post, put, step};

pub(crate) fn rollouts() -> Vec<Step> {
    let policy = |what, rollout: Json| {
        let environment = json!({"environment": "default", "rollout": rollout.clone()});
        step(
            what,
            put("/admin/environments/default", json!({ "rollout": rollout })),
            ("EnvironmentService/UpdateEnvironment", json!({ "environment": environment })),
        )
    };
    let plan = |what, plan_id| {
        create(what, "/admin/plans", CREATE_PLAN, json!({"plan_id": plan_id, "rate_limit": 60}))
    };
    let call = |what, (verb, path), rpc| {
        let body = if verb == Method::GET { get(path) } else { post(path, json!({})) };
        step(what, body, (rpc, json!({})))
    };
    let (status, pause) = ((Method::GET, "/admin/rollout"), (Method::POST, "/admin/rollout/pause"));
    let (resume, undo) =
        ((Method::POST, "/admin/rollout/resume"), (Method::POST, "/admin/rollout/undo"));
    vec![
        call("none yet", status.clone(), "RolloutService/GetRollout"),
        policy(
            "all faults of a policy at once",
            json!({
                "rings": [{"name": "Canary", "labels": []}, {"name": "rest", "labels": ["tier"]}],
                "hold": 0, "max_error_rate": 2, "max_p99_ms": -1, "max_p99_ratio": 1, "min_requests": -1,
            }),
        ),
        policy(
            "a policy",
            json!({
                "rings": [{"name": "canary", "labels": ["tier=canary"]}, {"name": "rest"}],
                "max_p99_ratio": 2.5,
            }),
        ),
        call("it is no change for nodes", status.clone(), "RolloutService/GetRollout"),
        plan("a change begins a rollout", "gold"),
        call("with the first ring", status.clone(), "RolloutService/GetRollout"),
        call("resumed before it is paused", resume.clone(), "RolloutService/ResumeRollout"),
        call("it is paused", pause.clone(), "RolloutService/PauseRollout"),
        call("once", pause, "RolloutService/PauseRollout"),
        call("it goes on", resume, "RolloutService/ResumeRollout"),
        call("it is undone", undo.clone(), "RolloutService/UndoRollout"),
        call("once", undo, "RolloutService/UndoRollout"),
        step("the change is gone", get("/admin/plans"), ("PlanService/ListPlans", json!({}))),
        step(
            "the history has both",
            get("/admin/config/revisions?page_size=2"),
            ("ConfigService/ListRevisions", json!({"page_size": 2})),
        ),
        step(
            "the policy goes",
            put("/admin/environments/default?update_mask=rollout", json!({})),
            (
                "EnvironmentService/UpdateEnvironment",
                json!({"environment": {"environment": "default"}, "update_mask": "rollout"}),
            ),
        ),
        plan("without it every node has a change at once", "silver"),
        call("the last rollout is still told of", status, "RolloutService/GetRollout"),
    ]
}
