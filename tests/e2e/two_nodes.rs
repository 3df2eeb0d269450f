//! The main job: made with fgctl, served by both nodes.

use http::{Method, StatusCode};

use crate::support::{Gate, Upstream};

#[tokio::test]
async fn what_fgctl_makes_both_nodes_serve() {
    let upstream = Upstream::start("orders").await;
    let gate = Gate::with_nodes(2).start().await;
    gate.fgctl_json(&["upstreams", "create", "orders", "--target", &upstream.url]);
    let config = gate.dir().join("routes.yaml");
    std::fs::write(
        &config,
        "routes:\n  - path_prefix: /orders\n    upstream: orders\n    methods: [GET]\n    \
         required_permissions: ['orders:read']\n",
    )
    .expect("a file");
    gate.fgctl_json(&["apply", "-f", config.to_str().expect("text")]);
    let key = |source: &str, permission: &str| {
        let args = ["keys", "create", "--source-path", source, "--permission", permission];
        gate.fgctl_json(&args)["key_value"].as_str().expect("a secret").to_owned()
    };
    let good = key("mobile_app", "orders:*");
    let poor = key("partner", "users:read");
    gate.settle().await;

    for node in &gate.nodes {
        let answer = node.with_key(&good).get("/orders/7").await;
        assert_eq!(answer.status, StatusCode::OK);
        let seen = answer.json();
        assert_eq!(seen["served_by"], "orders");
        assert_eq!(seen["path"], "/orders/7");
        assert_eq!(seen["headers"]["x-source-path"], "mobile_app");
        assert_eq!(seen["headers"]["x-api-key"], serde_json::Value::Null);
        assert_eq!(seen["headers"]["x-request-id"], answer.header("x-request-id"));

        let refused = [
            (node.proxy.get("/orders/7").await, StatusCode::UNAUTHORIZED),
            (node.with_key("fg_junk").get("/orders/7").await, StatusCode::UNAUTHORIZED),
            (node.with_key(&poor).get("/orders/7").await, StatusCode::FORBIDDEN),
            (node.with_key(&good).get("/nothing").await, StatusCode::NOT_FOUND),
            (node.with_key(&good).get("/ordersx").await, StatusCode::NOT_FOUND),
            (
                node.with_key(&good).send(Method::POST, "/orders/7", "").await,
                StatusCode::METHOD_NOT_ALLOWED,
            ),
        ];
        for (answer, status) in refused {
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("content-type"), "application/problem+json");
            let problem = answer.json();
            assert_eq!(problem["status"], status.as_u16());
            assert_eq!(problem["request_id"], answer.header("x-request-id"));
        }
    }
    assert_eq!(upstream.served(), 2, "refused requests never reach it");
}
