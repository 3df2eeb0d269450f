//! What users do with plans, and with keys on them.

use serde_json::json;

use super::{CREATE_KEY, CREATE_PLAN, Step, create, delete, get, put, step};

pub(crate) fn plans() -> Vec<Step> {
    let (plans, keys) = ("/admin/plans", "/admin/keys");
    let update = |what, path, plan: serde_json::Value| {
        let mut named = plan.clone();
        named["plan_id"] = json!("gold");
        step(what, put(path, plan), ("PlanService/UpdatePlan", json!({ "plan": named })))
    };
    vec![
        create(
            "a plan",
            plans,
            CREATE_PLAN,
            json!({"plan_id": "gold", "rate_limit": 60, "rate_limit_fallback": "open"}),
        ),
        create("the same plan again", plans, CREATE_PLAN, json!({"plan_id": "gold"})),
        create(
            "all faults of a plan at once",
            plans,
            CREATE_PLAN,
            json!({
                "plan_id": "Gold!", "rate_limit": 0, "rate_limit_fallback": "maybe",
                "description": "a\nb",
            }),
        ),
        create(
            "a limit beyond all",
            plans,
            CREATE_PLAN,
            json!({"plan_id": "more", "rate_limit": 9_007_199_254_740_993_i64}),
        ),
        step(
            "it is read",
            get("/admin/plans/gold"),
            ("PlanService/GetPlan", json!({"plan_id": "gold"})),
        ),
        create(
            "a key on it",
            keys,
            CREATE_KEY,
            json!({"source_path": "mobile_app", "plan_id": "gold"}),
        ),
        create(
            "a key on a plan that is not there",
            keys,
            CREATE_KEY,
            json!({"source_path": "mobile_app", "plan_id": "silver"}),
        ),
        create(
            "a key on what can't be a plan",
            keys,
            CREATE_KEY,
            json!({"source_path": "mobile_app", "plan_id": "No Plan"}),
        ),
        step(
            "the key changes to a plan that is not there",
            put("/admin/keys/{key-1}", json!({"plan_id": "silver"})),
            ("KeyService/UpdateKey", json!({"key": {"key_id": "{key-1}", "plan_id": "silver"}})),
        ),
        update("the plan changes", "/admin/plans/gold", json!({"rate_limit": 120})),
        update(
            "a change with a stale etag",
            "/admin/plans/gold",
            json!({"rate_limit": 1, "etag": "{etag-1}"}),
        ),
        update("a change to nothing", "/admin/plans/gold", json!({"rate_limit": -1})),
        step("plans are listed", get(plans), ("PlanService/ListPlans", json!({}))),
        step(
            "keys on it",
            get("/admin/keys?plan_id=gold"),
            ("KeyService/ListKeys", json!({"plan_id": "gold"})),
        ),
        step(
            "keys on another",
            get("/admin/keys?plan_id=silver"),
            ("KeyService/ListKeys", json!({"plan_id": "silver"})),
        ),
        step(
            "a plan that is in use",
            delete("/admin/plans/gold"),
            ("PlanService/DeletePlan", json!({"plan_id": "gold"})),
        ),
        step(
            "the key leaves it",
            put("/admin/keys/{key-1}", json!({"plan_id": null})),
            (
                "KeyService/UpdateKey",
                json!({"key": {"key_id": "{key-1}"}, "update_mask": "planId"}),
            ),
        ),
        step(
            "a plan in use no more",
            delete("/admin/plans/gold"),
            ("PlanService/DeletePlan", json!({"plan_id": "gold"})),
        ),
        step(
            "what is gone",
            get("/admin/plans/gold"),
            ("PlanService/GetPlan", json!({"plan_id": "gold"})),
        ),
    ]
}
