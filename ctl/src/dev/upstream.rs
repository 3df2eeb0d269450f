//! The demo upstream: answers every request with what reached it, as JSON.

use std::net::SocketAddr;

use http::{HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

/// More connections wait until one ends.
const MAX_CONNECTIONS: usize = 1024;

/// Serves on a port of its own until it is dropped.
pub(super) struct DemoUpstream {
    /// Where it listens.
    pub(super) address: SocketAddr,
    _stop: DropGuard,
}

impl DemoUpstream {
    /// Starts it.
    pub(super) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, stop.clone()));
        Ok(Self { address, _stop: stop.drop_guard() })
    }
}

async fn serve(listener: TcpListener, stop: CancellationToken) {
    // Its connections end with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                let Ok((stream, _)) = accepted else { continue };
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new());
                connections.spawn(http.serve_connection(TokioIo::new(stream), service_fn(answer)));
            }
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, mut body) = request.into_parts();
    let mut body_size = 0;
    while let Some(frame) = body.frame().await {
        body_size += frame?.data_ref().map_or(0, Bytes::len);
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let header =
        |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), text(value).into());
    let headers: serde_json::Map<_, _> = head.headers.iter().map(header).collect();
    let answer = serde_json::json!({
        "served_by": "the demo upstream of fgctl dev",
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": headers,
        "body_size": body_size,
    });
    let mut response = Response::new(Full::new(format!("{answer:#}\n").into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};

    use super::*;

    #[tokio::test]
    async fn it_answers_with_what_it_was_sent() {
        let upstream = DemoUpstream::start().await.expect("started");
        let client = Client::builder(TokioExecutor::new()).build_http();
        let request = Request::post(format!("http://{}/a/b?c=1", upstream.address))
            .header("x-source-path", "demo")
            .body(Full::new(Bytes::from_static(b"twelve bytes")))
            .expect("a request");
        let answer = client.request(request).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        let told: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((&told["method"], &told["path"]), (&"POST".into(), &"/a/b".into()));
        assert_eq!((&told["query"], &told["body_size"]), (&"c=1".into(), &12.into()));
        assert_eq!(told["headers"]["x-source-path"], "demo");
    }
}
