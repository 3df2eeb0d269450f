//! What users do with the admin API, each step as REST and as gRPC say it.

use http::Method;
use serde_json::{Value as Json, json};

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
const CREATE_ENVIRONMENT: (&str, &str) = ("EnvironmentService/CreateEnvironment", "environment");
const CREATE_TOKEN: (&str, &str) = ("AccessService/CreateToken", "token");

pub(crate) fn keys() -> Vec<Step> {
    let keys = "/admin/keys";
    vec![
        create(
            "a key is created",
            keys,
            CREATE_KEY,
            json!({
                "source_path": "mobile_app", "permissions": ["orders:read"], "rate_limit": 60,
                "expires_at": "2999-01-01T00:00:00Z", "description": "'; DROP TABLE keys; --",
            }),
        ),
        step(
            "it is read",
            get("/admin/keys/{key-1}"),
            ("KeyService/GetKey", json!({"key_id": "{key-1}"})),
        ),
        step("keys are listed", get(keys), ("KeyService/ListKeys", json!({}))),
        create("a second key takes the defaults", keys, CREATE_KEY, json!({"source_path": "web"})),
        step(
            "the first page of two",
            get("/admin/keys?page_size=1"),
            ("KeyService/ListKeys", json!({"page_size": 1})),
        ),
        step(
            "the second page",
            get("/admin/keys?page_size=1&page_token={page-1}"),
            ("KeyService/ListKeys", json!({"page_size": 1, "page_token": "{page-1}"})),
        ),
        step(
            "keys of one source path",
            get("/admin/keys?source_path=mobile_app&is_active=true"),
            ("KeyService/ListKeys", json!({"source_path": "mobile_app", "is_active": true})),
        ),
        step(
            "a broken page token",
            get("/admin/keys?page_token=nope"),
            ("KeyService/ListKeys", json!({"page_token": "nope"})),
        ),
        step(
            "a negative page size",
            get("/admin/keys?page_size=-1"),
            ("KeyService/ListKeys", json!({"page_size": -1})),
        ),
        step(
            "one field changes, the others stay",
            put("/admin/keys/{key-1}", json!({"rate_limit": 5})),
            ("KeyService/UpdateKey", json!({"key": {"key_id": "{key-1}", "rate_limit": 5}})),
        ),
        step(
            "a named field that is absent is cleared",
            put("/admin/keys/{key-1}", json!({"rate_limit": null})),
            (
                "KeyService/UpdateKey",
                json!({"key": {"key_id": "{key-1}"}, "update_mask": "rateLimit"}),
            ),
        ),
        step(
            "an update that changes nothing keeps the etag",
            put("/admin/keys/{key-1}", json!({"source_path": "mobile_app"})),
            (
                "KeyService/UpdateKey",
                json!({"key": {"key_id": "{key-1}", "source_path": "mobile_app"}}),
            ),
        ),
        step(
            "a stale etag",
            put("/admin/keys/{key-1}", json!({"rate_limit": 1, "etag": "{etag-1}"})),
            (
                "KeyService/UpdateKey",
                json!({"key": {"key_id": "{key-1}", "rate_limit": 1, "etag": "{etag-1}"}}),
            ),
        ),
        step(
            "an unknown field in the mask",
            put("/admin/keys/{key-1}?update_mask=nope", json!({})),
            ("KeyService/UpdateKey", json!({"key": {"key_id": "{key-1}"}, "update_mask": "nope"})),
        ),
        create(
            "all faults of a key at once",
            keys,
            CREATE_KEY,
            json!({
                "source_path": "", "permissions": ["a b"], "rate_limit": 0,
                "expires_at": "2020-01-01T00:00:00Z", "rate_limit_fallback": "maybe",
            }),
        ),
        step(
            "a dry run shows no secret",
            post("/admin/keys?validate_only=true", json!({"source_path": "dry"})),
            ("KeyService/CreateKey", json!({"key": {"source_path": "dry"}, "validate_only": true})),
        ),
        step(
            "a call with a request id",
            post("/admin/keys?request_id=r1", json!({"source_path": "once"})),
            ("KeyService/CreateKey", json!({"key": {"source_path": "once"}, "request_id": "r1"})),
        ),
        step(
            "its repetition gives the same key without the secret",
            post("/admin/keys?request_id=r1", json!({"source_path": "once"})),
            ("KeyService/CreateKey", json!({"key": {"source_path": "once"}, "request_id": "r1"})),
        ),
        step(
            "a rotation shows a new secret",
            post("/admin/keys/{key-1}/rotate", json!({"overlap": 60})),
            ("KeyService/RotateKey", json!({"key_id": "{key-1}", "overlap": 60})),
        ),
        step(
            "a rotation that ends the old ones at once",
            post("/admin/keys/{key-1}/rotate", json!({"overlap": 0})),
            ("KeyService/RotateKey", json!({"key_id": "{key-1}", "overlap": 0})),
        ),
        step(
            "a negative overlap",
            post("/admin/keys/{key-1}/rotate", json!({"overlap": -1})),
            ("KeyService/RotateKey", json!({"key_id": "{key-1}", "overlap": -1})),
        ),
        step(
            "a revocation",
            post("/admin/keys/{key-1}/revoke", json!({})),
            ("KeyService/RevokeKey", json!({"key_id": "{key-1}"})),
        ),
        step(
            "a deletion",
            delete("/admin/keys/{key-1}"),
            ("KeyService/DeleteKey", json!({"key_id": "{key-1}"})),
        ),
        step(
            "it is gone",
            get("/admin/keys/{key-1}"),
            ("KeyService/GetKey", json!({"key_id": "{key-1}"})),
        ),
        step(
            "what can't be an id",
            get("/admin/keys/'%20OR%201=1%20--"),
            ("KeyService/GetKey", json!({"key_id": "' OR 1=1 --"})),
        ),
        step(
            "an unknown environment",
            get("/admin/keys?environment=gone"),
            ("KeyService/ListKeys", json!({"environment": "gone"})),
        ),
        step(
            "two environments in one call",
            post("/admin/keys?environment=a", json!({"source_path": "x", "environment": "b"})),
            (
                "KeyService/CreateKey",
                json!({"key": {"source_path": "x", "environment": "b"}, "environment": "a"}),
            ),
        ),
    ]
}

pub(crate) fn routes() -> Vec<Step> {
    let (routes, upstreams) = ("/admin/routes", "/admin/upstreams");
    let target = || json!([{"url": "http://localhost:1"}]);
    vec![
        create(
            "an upstream",
            upstreams,
            CREATE_UPSTREAM,
            json!({"upstream_id": "users", "targets": [{"url": "http://a:1", "weight": 70}]}),
        ),
        create(
            "the same upstream again",
            upstreams,
            CREATE_UPSTREAM,
            json!({"upstream_id": "users", "targets": target()}),
        ),
        create(
            "all faults of an upstream at once",
            upstreams,
            CREATE_UPSTREAM,
            json!({
                "upstream_id": "Bad!", "connect_timeout": -1,
                "targets": [{"url": "nope", "weight": 0}, {"url": "http://a", "weight": 0}],
            }),
        ),
        step(
            "an upstream changes",
            put("/admin/upstreams/users", json!({"description": "who they are"})),
            (
                "UpstreamService/UpdateUpstream",
                json!({"upstream": {"upstream_id": "users", "description": "who they are"}}),
            ),
        ),
        step("upstreams are listed", get(upstreams), ("UpstreamService/ListUpstreams", json!({}))),
        create(
            "a route with an id",
            routes,
            CREATE_ROUTE,
            json!({
                "route_id": "users", "name": "用户服务", "path_prefix": "/users",
                "upstream": "users", "timeout": 30, "retry_count": 3, "rate_limit": 200,
            }),
        ),
        create(
            "a route without one",
            routes,
            CREATE_ROUTE,
            json!({"path": "/x", "methods": ["GET"], "targets": target()}),
        ),
        step("routes are listed", get(routes), ("RouteService/ListRoutes", json!({}))),
        create(
            "a route that matches the same requests",
            routes,
            CREATE_ROUTE,
            json!({"route_id": "twin", "path_prefix": "/users/", "targets": target()}),
        ),
        create(
            "a route with the same name",
            routes,
            CREATE_ROUTE,
            json!({"route_id": "other", "name": "用户服务", "path": "/y", "targets": target()}),
        ),
        create(
            "an unknown upstream",
            routes,
            CREATE_ROUTE,
            json!({"route_id": "lost", "path": "/z", "upstream": "gone"}),
        ),
        create(
            "all faults of a route at once",
            routes,
            CREATE_ROUTE,
            json!({
                "path": "/../x", "timeout": -1, "retry_count": 11, "methods": ["get"],
                "targets": [{"url": "ftp://x"}], "rate_limit": -5,
            }),
        ),
        step(
            "a route changes",
            put("/admin/routes/users", json!({"timeout": 5, "rate_limit": null})),
            (
                "RouteService/UpdateRoute",
                json!({
                    "route": {"route_id": "users", "timeout": 5},
                    "update_mask": "timeout,rateLimit",
                }),
            ),
        ),
        step(
            "it is read",
            get("/admin/routes/users"),
            ("RouteService/GetRoute", json!({"route_id": "users"})),
        ),
        step(
            "an upstream that is in use",
            delete("/admin/upstreams/users"),
            ("UpstreamService/DeleteUpstream", json!({"upstream_id": "users"})),
        ),
        step(
            "a deletion with a stale etag",
            delete("/admin/routes/users?etag={etag-1}"),
            ("RouteService/DeleteRoute", json!({"route_id": "users", "etag": "{etag-1}"})),
        ),
        step(
            "a deletion",
            delete("/admin/routes/users"),
            ("RouteService/DeleteRoute", json!({"route_id": "users"})),
        ),
        step(
            "an upstream in use no more",
            delete("/admin/upstreams/users"),
            ("UpstreamService/DeleteUpstream", json!({"upstream_id": "users"})),
        ),
        step(
            "what is gone",
            delete("/admin/routes/users"),
            ("RouteService/DeleteRoute", json!({"route_id": "users"})),
        ),
    ]
}

pub(crate) fn config() -> Vec<Step> {
    let apply = |what, config: Json| {
        let request = json!({ "config": config.clone() });
        step(what, post("/admin/config/apply", config), ("ConfigService/ApplyConfig", request))
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
        apply("a document is applied in one revision", document.clone()),
        apply("again it changes nothing", document),
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
            "a route is known by its name",
            json!({
                "upstreams": [{"upstream_id": "orders", "targets": [{"url": "http://o"}]}],
                "routes": [
                    {"name": "订单服务", "path_prefix": "/api/v2/orders", "upstream": "orders"},
                ],
            }),
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
