//! What users do with the admin API, each step as REST and as gRPC say it.

mod keys;
mod plans;
mod rollouts;
mod routes;

use http::Method;
use serde_json::{Value as Json, json};

pub(crate) use keys::keys;
pub(crate) use plans::plans;
pub(crate) use rollouts::rollouts;
pub(crate) use routes::routes;

/// One call. Texts may name what earlier answers held: `{key-1}`, `{etag-2}`, `{page-1}`.
pub(crate) struct Step {
    pub(crate) what: &'static str,
    pub(crate) verb: Method,
    pub(crate) path: &'static str,
    pub(crate) body: Json,
    pub(crate) rpc: &'static str,
    pub(crate) request: Json,
}

fn step(
    what: &'static str,
    (verb, path, body): (Method, &'static str, Json),
    (rpc, request): (&'static str, Json),
) -> Step {
    Step { what, verb, path, body, rpc, request }
}

fn get(path: &'static str) -> (Method, &'static str, Json) {
    (Method::GET, path, Json::Null)
}

fn delete(path: &'static str) -> (Method, &'static str, Json) {
    (Method::DELETE, path, Json::Null)
}

fn post(path: &'static str, body: Json) -> (Method, &'static str, Json) {
    (Method::POST, path, body)
}

fn put(path: &'static str, body: Json) -> (Method, &'static str, Json) {
    (Method::PUT, path, body)
}

/// Creates an object: the body is the object, in gRPC below the name of its kind.
fn create(
    what: &'static str,
    path: &'static str,
    (rpc, kind): (&'static str, &'static str),
    object: Json,
) -> Step {
    let request = json!({ kind: object.clone() });
    step(what, post(path, object), (rpc, request))
}

const CREATE_KEY: (&str, &str) = ("KeyService/CreateKey", "key");
const CREATE_ROUTE: (&str, &str) = ("RouteService/CreateRoute", "route");
const CREATE_UPSTREAM: (&str, &str) = ("UpstreamService/CreateUpstream", "upstream");
const CREATE_PLAN: (&str, &str) = ("PlanService/CreatePlan", "plan");
const CREATE_ENVIRONMENT: (&str, &str) = ("EnvironmentService/CreateEnvironment", "environment");
const CREATE_TOKEN: (&str, &str) = ("AccessService/CreateToken", "token");

pub(crate) fn config() -> Vec<Step> {
    let apply = |what, config: Json| {
        let request = json!({ "config": config.clone() });
        step(what, post("/admin/config/apply", config), ("ConfigService/ApplyConfig", request))
    };
    let repeatable = |what, config: Json| {
        let request = json!({ "config": config.clone(), "request_id": "r1" });
        let call = post("/admin/config/apply?request_id=r1", config);
        step(what, call, ("ConfigService/ApplyConfig", request))
    };
    // The two shapes of the user's design.
    let document = json!({"routes": [
        {
            "path": "/api/v1/users", "methods": ["GET", "POST"], "timeout": 30, "retry_count": 3,
            "targets": [
                {"url": "http://user-service:8001", "weight": 70},
                {"url": "http://user-service-backup:8001", "weight": 30},
            ],
        },
        {
            "name": "订单服务", "path_prefix": "/api/v1/orders", "auth_required": true,
            "rate_limit": 200, "targets": [{"url": "http://localhost:8002", "timeout": 45}],
        },
    ]});
    let faulty = json!({"routes": [
        {"path": "/a", "targets": [{"url": "http://a"}]},
        {"path": "/a", "targets": [{"url": "http://a"}]},
        {"path": "/b", "upstream": "gone"},
        {"path": "/c", "targets": [{"url": "nope"}]},
    ]});
    let pruned = json!({
        "plans": [{"plan_id": "gold", "rate_limit": 120}],
        "routes": [{"name": "订单服务", "path": "/c", "targets": [{"url": "http://c"}]}],
    });
    vec![
        step(
            "a document is compared",
            post("/admin/config/diff", document.clone()),
            ("ConfigService/DiffConfig", json!({ "config": document.clone() })),
        ),
        step(
            "a dry run",
            post("/admin/config/apply?validate_only=true", document.clone()),
            (
                "ConfigService/ApplyConfig",
                json!({ "config": document.clone(), "validate_only": true }),
            ),
        ),
        repeatable("a document is applied in one revision", document.clone()),
        repeatable("the same call is answered as before", document.clone()),
        apply("another changes nothing", document),
        apply("faults name their places", faulty.clone()),
        step(
            "the same as an answer",
            post("/admin/config/validate", faulty.clone()),
            ("ConfigService/ValidateConfig", json!({ "config": faulty })),
        ),
        step(
            "config is exported",
            get("/admin/config/export"),
            ("ConfigService/ExportConfig", json!({})),
        ),
        apply(
            "a stale etag names its place",
            json!({"routes": [
                {"path": "/d", "targets": [{"url": "http://d"}]},
                {"name": "订单服务", "path": "/c", "targets": [{"url": "http://c"}], "etag": "0"},
            ]}),
        ),
        apply(
            "a route is known by its name",
            json!({
                "upstreams": [{"upstream_id": "orders", "targets": [{"url": "http://o"}]}],
                "plans": [{"plan_id": "gold", "rate_limit": 60}],
                "routes": [
                    {"name": "订单服务", "path_prefix": "/api/v2/orders", "upstream": "orders"},
                ],
            }),
        ),
        apply(
            "a plan changes, another is new",
            json!({"plans": [
                {"plan_id": "gold", "rate_limit": 120}, {"plan_id": "free", "rate_limit": 1},
            ]}),
        ),
        step(
            "what a document does not hold goes",
            post("/admin/config/apply?prune=true", pruned.clone()),
            ("ConfigService/ApplyConfig", json!({ "config": pruned, "prune": true })),
        ),
        step(
            "forced without a need",
            post("/admin/config/apply?force=true", json!({})),
            ("ConfigService/ApplyConfig", json!({ "config": {}, "force": true })),
        ),
        apply("a faulty plan", json!({"plans": [{"plan_id": "gold", "rate_limit": 0}]})),
        step(
            "plans are exported",
            get("/admin/config/export"),
            ("ConfigService/ExportConfig", json!({})),
        ),
    ]
}

pub(crate) fn environments() -> Vec<Step> {
    let environments = "/admin/environments";
    vec![
        create(
            "an environment",
            environments,
            CREATE_ENVIRONMENT,
            json!({"environment": "staging", "default_rate_limit": 0}),
        ),
        create("again", environments, CREATE_ENVIRONMENT, json!({"environment": "staging"})),
        create(
            "its faults",
            environments,
            CREATE_ENVIRONMENT,
            json!({"environment": "two", "description": "a\nb", "default_rate_limit": -1}),
        ),
        step(
            "environments are listed",
            get(environments),
            ("EnvironmentService/ListEnvironments", json!({})),
        ),
        step(
            "an environment changes",
            put("/admin/environments/staging", json!({"description": "for tests"})),
            (
                "EnvironmentService/UpdateEnvironment",
                json!({"environment": {"environment": "staging", "description": "for tests"}}),
            ),
        ),
        step(
            "a key of it",
            post("/admin/keys?environment=staging", json!({"source_path": "tests"})),
            (
                "KeyService/CreateKey",
                json!({"key": {"source_path": "tests"}, "environment": "staging"}),
            ),
        ),
        step(
            "is in no other",
            get("/admin/keys/{key-1}"),
            ("KeyService/GetKey", json!({"key_id": "{key-1}"})),
        ),
        step(
            "it is not empty",
            delete("/admin/environments/staging"),
            ("EnvironmentService/DeleteEnvironment", json!({"environment": "staging"})),
        ),
        step(
            "its key goes",
            delete("/admin/keys/{key-1}?environment=staging"),
            ("KeyService/DeleteKey", json!({"key_id": "{key-1}", "environment": "staging"})),
        ),
        step(
            "then it may go",
            delete("/admin/environments/staging"),
            ("EnvironmentService/DeleteEnvironment", json!({"environment": "staging"})),
        ),
        step(
            "the default stays",
            delete("/admin/environments/default"),
            ("EnvironmentService/DeleteEnvironment", json!({"environment": "default"})),
        ),
    ]
}

pub(crate) fn logs_and_access() -> Vec<Step> {
    vec![
        step("no node yet", get("/admin/nodes"), ("NodeService/ListNodes", json!({}))),
        step(
            "no join token without a CA",
            post("/admin/nodes/tokens", json!({"node_id": "n1"})),
            ("NodeService/CreateJoinToken", json!({"join_token": {"node_id": "n1"}})),
        ),
        step(
            "so none is listed",
            get("/admin/nodes/tokens?environment=default"),
            ("NodeService/ListJoinTokens", json!({"environment": "default"})),
        ),
        step(
            "nor deleted",
            delete("/admin/nodes/tokens/join-1"),
            ("NodeService/DeleteJoinToken", json!({"token_id": "join-1"})),
        ),
        step(
            "who never joined can't be revoked",
            post("/admin/nodes/n1/revoke", json!({})),
            ("NodeService/RevokeNode", json!({"node_id": "n1"})),
        ),
        step(
            "no log yet",
            get("/admin/logs?status_code=4xx"),
            ("LogService/ListLogs", json!({"status_code": "4xx"})),
        ),
        step(
            "a status that is none",
            get("/admin/logs?status_code=banana"),
            ("LogService/ListLogs", json!({"status_code": "banana"})),
        ),
        step(
            "an end before its start",
            get("/admin/logs?start_time=2026-01-02T00:00:00Z&end_time=2026-01-01T00:00:00Z"),
            (
                "LogService/ListLogs",
                json!({"start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"}),
            ),
        ),
        step(
            "no metrics yet",
            get("/admin/metrics?start_time=2026-01-01T00:00:01Z&end_time=2026-01-01T01:00:01Z"),
            (
                "MetricsService/GetMetrics",
                json!({"start_time": "2026-01-01T00:00:01Z", "end_time": "2026-01-01T01:00:01Z"}),
            ),
        ),
        step(
            "metrics of what is none",
            get("/admin/metrics?step=week&top=101&status_code=x"),
            ("MetricsService/GetMetrics", json!({"step": "week", "top": 101, "status_code": "x"})),
        ),
        create(
            "a token",
            "/admin/tokens",
            CREATE_TOKEN,
            json!({"name": "dashboard", "role": "viewer"}),
        ),
        create("its faults", "/admin/tokens", CREATE_TOKEN, json!({"role": "king"})),
        step("tokens are listed", get("/admin/tokens"), ("AccessService/ListTokens", json!({}))),
        step(
            "the last owner stays",
            delete("/admin/tokens/{tok-2}"),
            ("AccessService/RevokeToken", json!({"token_id": "{tok-2}"})),
        ),
        step(
            "another may go",
            delete("/admin/tokens/{tok-1}"),
            ("AccessService/RevokeToken", json!({"token_id": "{tok-1}"})),
        ),
        step(
            "who changed what",
            get("/admin/events"),
            ("AccessService/ListAdminEvents", json!({})),
        ),
    ]
}
