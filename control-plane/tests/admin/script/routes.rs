//! What users do with upstreams and routes.

use serde_json::json;

use super::{CREATE_ROUTE, CREATE_UPSTREAM, Step, create, delete, get, put, step};

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
            "what is recorded of it is set",
            put(
                "/admin/routes/users",
                json!({"recording": {"request_headers": ["X-Tenant"], "response_body_bytes": 1024}}),
            ),
            (
                "RouteService/UpdateRoute",
                json!({
                    "route": {
                        "route_id": "users",
                        "recording": {"request_headers": ["X-Tenant"], "response_body_bytes": 1024},
                    },
                }),
            ),
        ),
        step(
            "and a part of that changes",
            put(
                "/admin/routes/users?update_mask=recording.success_sample",
                json!({"recording": {"success_sample": 0.1}}),
            ),
            (
                "RouteService/UpdateRoute",
                json!({
                    "route": {"route_id": "users", "recording": {"success_sample": 0.1}},
                    "update_mask": "recording.successSample",
                }),
            ),
        ),
        step(
            "all faults of what is recorded at once",
            put(
                "/admin/routes/users",
                json!({"recording": {
                    "request_headers": ["a b"], "success_sample": 2, "redact": ["$.a", "password"],
                }}),
            ),
            (
                "RouteService/UpdateRoute",
                json!({
                    "route": {"route_id": "users", "recording": {
                        "request_headers": ["a b"], "success_sample": 2,
                        "redact": ["$.a", "password"],
                    }},
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
