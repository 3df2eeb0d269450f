//! What users do with keys.

use serde_json::json;

use super::{CREATE_KEY, Step, create, delete, get, post, put, step};

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
            "limits are reset though no node can tell of it",
            post("/admin/keys/{key-1}/limits:reset", json!({})),
            ("LimitService/ResetLimits", json!({"key_id": "{key-1}"})),
        ),
        step(
            "those of no key",
            post("/admin/keys/gone/limits:reset", json!({})),
            ("LimitService/ResetLimits", json!({"key_id": "gone"})),
        ),
        step(
            "when it was nobody sets",
            put("/admin/keys/{key-1}?update_mask=limits_reset_at", json!({})),
            (
                "KeyService/UpdateKey",
                json!({"key": {"key_id": "{key-1}"}, "update_mask": "limitsResetAt"}),
            ),
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
            "its id with another request",
            post("/admin/keys?request_id=r1", json!({"source_path": "other"})),
            ("KeyService/CreateKey", json!({"key": {"source_path": "other"}, "request_id": "r1"})),
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
