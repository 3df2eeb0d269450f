//! A service behind the gateway.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Dropped, it is gone with all its connections. Answers JSON about each request. The path may ask for more:
/// `/status/503`, `/slow/MILLISECONDS`, `/bytes/MIB`.
pub(crate) struct Upstream {
    pub(crate) url: String,
    served: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// One whose answers say `served_by: NAME`.
    pub(crate) async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let served = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, name, served.clone()));
        Self { url, served, task }
    }

    /// One with nothing to say, at the least cost: for load.
    pub(crate) async fn terse() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let served = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept_tersely(listener, served.clone()));
        Self { url, served, task }
    }

    /// Requests so far.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, name: &'static str, served: Arc<AtomicU64>) {
    // Ends every connection with this task.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        while connections.try_join_next().is_some() {}
        let served = served.clone();
        let service = service_fn(move |request| {
            served.fetch_add(1, SeqCst);
            answer(name, request)
        });
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn accept_tersely(listener: TcpListener, served: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        connections.spawn(answer_tersely(stream, served.clone()));
    }
}

async fn answer_tersely(mut stream: TcpStream, served: Arc<AtomicU64>) {
    let mut received = Vec::new();
    while matches!(stream.read_buf(&mut received).await, Ok(1..)) {
        // A node sends the next request once it has the answer to this one.
        if received.ends_with(b"\r\n\r\n") {
            received.clear();
            served.fetch_add(1, SeqCst);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                return;
            }
        }
    }
}

async fn answer(
    name: &'static str,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut received = 0;
    while let Some(Ok(frame)) = body.frame().await {
        received += frame.data_ref().map_or(0, Bytes::len);
    }
    let wish: Vec<_> = head.uri.path().trim_start_matches('/').split('/').collect();
    let mut status = StatusCode::OK;
    match wish[..] {
        ["status", code] => status = code.parse().expect("a status"),
        ["slow", ms] => {
            tokio::time::sleep(Duration::from_millis(ms.parse().expect("milliseconds"))).await;
        }
        ["bytes", mib] => return Ok(Response::new(zeros(mib.parse().expect("MiB")))),
        _ => {}
    }
    let headers: serde_json::Map<_, _> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let seen = serde_json::json!({
        "served_by": name,
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "headers": headers,
        "received": received,
    });
    let mut response = Response::new(Full::new(seen.to_string().into()).boxed());
    *response.status_mut() = status;
    Ok(response)
}

/// So many MiB, made as they are read.
fn zeros(mib: usize) -> BoxBody<Bytes, Infallible> {
    let chunk = Bytes::from_static(&[0; 64 << 10]);
    let frames = (0..mib * 16).map(move |_| Ok(Frame::data(chunk.clone())));
    BoxBody::new(StreamBody::new(futures_util::stream::iter(frames)))
}
