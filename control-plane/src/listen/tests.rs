//! How long a connection without a call is kept.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::{
    Transport,
    calls::{Calls, Patience},
    connection, greet,
    newcomers::Newcomers,
};

const PATIENCE: Patience =
    Patience { to_begin: Duration::from_millis(200), between: Duration::from_millis(600) };

/// A clock is read a moment after the wait it measures began.
const SLACK: Duration = Duration::from_millis(100);

/// Longer than anything here may take on a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// A port whose every answer goes on until the request's body ends.
async fn port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let service = tower::service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(Response::new(Body::new(request.into_body())))
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let calls = Calls::new(PATIENCE);
            let stop = CancellationToken::new();
            let greeting = greet(stream, Transport::Plain, Newcomers::default(), calls.clone());
            tokio::spawn(connection(greeting, service, calls, stop));
        }
    });
    address
}

#[tokio::test]
async fn one_that_never_begins_a_call_ends_soon() {
    let address = port().await;
    let beginnings: [&[u8]; 4] = [
        b"",
        b"PRI * HTTP/2.0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"GET / HTTP/1.1\r\nhost: x\r\n",
    ];
    for bytes in beginnings {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(bytes).await.expect("sent");
        let begun = Instant::now();
        // A reset is an end as well.
        let ended = timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
        let lived = begun.elapsed();
        let is_right = ended.is_ok() && lived >= PATIENCE.to_begin - SLACK;
        assert!(is_right, "{}: {lived:?}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn one_with_a_call_stays_and_ends_when_it_is_over() {
    let (mut sender, connection) = connect(port().await).await;
    let (body, frames) = tokio::sync::mpsc::channel::<Result<_, Infallible>>(1);
    let body_of_request = http_body_util::StreamBody::new(ReceiverStream::new(frames));
    let request = Request::post("http://x/").body(body_of_request.boxed());
    let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
    sleep(PATIENCE.between * 3).await;
    assert!(!connection.is_finished());

    drop(body);
    answer.into_body().collect().await.expect("ends");
    let begun = Instant::now();
    timeout(SOON, connection).await.expect("ends").expect("no panic");
    let lived = begun.elapsed();
    assert!(lived >= PATIENCE.between - SLACK, "{lived:?}");
    drop(sender);
}

type Sent = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// A connection that answers pings, and the task that ends with it.
async fn connect(address: SocketAddr) -> (SendRequest<Sent>, JoinHandle<()>) {
    let stream = TcpStream::connect(address).await.expect("connects");
    let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = connected.expect("HTTP/2");
    (sender, tokio::spawn(async move { drop(connection.await) }))
}
