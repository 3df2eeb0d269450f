//! Bodies stream: whatever their size, a node's memory stays small.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::json;

use crate::support::{Gate, Upstream, run};

const MIB: usize = 1024;
const BYTES: usize = MIB << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_passes_both_ways_in_little_memory() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).start().await;
    let route = json!({
        "path_prefix": "/", "auth_required": false, "targets": [{"url": upstream.url}],
    });
    gate.route(route).await;
    let url = gate.nodes[0].proxy_url.clone();

    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let uri = format!("{url}/bytes/{MIB}").parse().expect("a URI");
    let mut body = client.get(uri).await.expect("answers").into_body();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        received += frame.expect("a whole body").data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(received, BYTES);

    let chunk = Bytes::from_static(&[0; 64 << 10]);
    let frames = (0..BYTES / chunk.len())
        .map(move |_| Ok::<_, std::convert::Infallible>(Frame::data(chunk.clone())));
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(format!("{url}/x")).body(body).expect("a request");
    let answer = client.request(request).await.expect("answers");
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = answer.into_body().collect().await.expect("a body").to_bytes();
    let seen: serde_json::Value = serde_json::from_slice(&seen).expect("JSON");
    assert_eq!(seen["received"], BYTES);

    let peak = gate.nodes[0].process().peak_memory();
    println!("1 GiB down and 1 GiB up: the node's memory peaked at {peak} MiB");
    assert!(peak < 64, "{peak} MiB");
}

// Two threads: curl is waited for on one, the upstream answers on the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_comes_in_without_tls() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(1).start().await;
    let route = json!({
        "path_prefix": "/", "auth_required": false, "targets": [{"url": upstream.url}],
    });
    gate.route(route).await;
    let mut curl = std::process::Command::new("curl");
    let url = format!("{}/over/h2", gate.nodes[0].proxy_url);
    let out = run(curl.args(["-sS", "--http2-prior-knowledge", "-w", "\n%{http_version}", &url]));
    let out = String::from_utf8_lossy(&out.stdout).into_owned();
    let (body, version) = out.rsplit_once('\n').expect("two lines");
    assert_eq!(version, "2");
    assert!(body.contains("\"path\":\"/over/h2\""), "{body}");
}
