//! Serves a port: HTTP/1.1 and HTTP/2 on the same one, in plain text or over TLS, bounded, with an end.
//!
//! ```text
//! accepted -> newcomer: first byte, handshake -> calls -> end
//! ```
//!
//! On the port of nodes, who shows no certificate that holds stays a newcomer to the end.
//!
//! After the stop, an answer under way has [`GRACE`] to reach its client. A connection that owes
//! none, be it idle, in the middle of a request head or with nothing but streams, is closed as soon
//! as it had time to say goodbye, whether its client listens or not.

mod calls;
mod greeting;
mod newcomers;
mod socket;

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service;

pub(crate) use self::greeting::{Acceptor, Tls, Transport};
use self::{
    calls::{Calls, Counted, Patience},
    greeting::Greeted,
    newcomers::{Newcomer, Newcomers},
    socket::Socket,
};
use crate::{identity::Peer, streams::HangUp};

/// Connections served at once; further ones wait in the backlog.
const CONNECTIONS: usize = 1024;
/// Calls at once on one connection.
const STREAMS: u32 = 256;
/// A connection that only keeps its place keeps a node out.
const PATIENCE: Patience =
    Patience { to_begin: Duration::from_secs(10), between: Duration::from_secs(30) };
/// How long a client may take to send a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));
/// Bytes of a stream that wait to be written, and of a connection that wait in the system to be sent:
/// nothing overtakes either, so on a slow link a revocation comes after them.
const UNSENT: u32 = 64 << 10;
/// How long answers under way may take after the stop.
const GRACE: Duration = Duration::from_secs(8);

/// Serves `listener` until `stop`, then lets answers under way end within [`GRACE`].
pub(crate) async fn serve<S>(
    listener: TcpListener,
    transport: Transport,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let newcomers = Newcomers::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Some((stream, slot)) = accepted else { continue };
        let calls = Calls::new(PATIENCE);
        let greeting = greet(stream, transport.clone(), newcomers.clone(), calls.clone());
        let connection = connection(greeting, service.clone(), calls, stop.clone());
        connections.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all_ended).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "connections cut off at the end of the grace time"
        );
        connections.shutdown().await;
    }
}

/// The next connection with its slot; `None` when there was none to take after all.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(fault) => {
            // Out of file descriptors, most likely: trying again at once would spin.
            tracing::warn!(error = %fault, "can't accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// What becomes of a connection before its first call; it has as long as until that one, and as long as
/// its place is needed for no other.
async fn greet(
    stream: TcpStream,
    transport: Transport,
    newcomers: Newcomers,
    calls: Calls,
) -> Option<(Greeted, Option<Newcomer>)> {
    let newcomer = newcomers.enter();
    let greeted = tokio::select! {
        () = calls.abandoned() => None,
        () = newcomer.outrun() => None,
        greeted = transport.greet(stream) => greeted,
    }?;
    let stays = matches!(greeted, Greeted::Stranger(..)).then_some(newcomer);
    Some((greeted, stays))
}

async fn connection<S>(
    greeting: impl Future<Output = Option<(Greeted, Option<Newcomer>)>>,
    service: S,
    calls: Calls,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let greeted = tokio::select! {
        () = stop.cancelled() => return,
        greeted = greeting => greeted,
    };
    let Some((greeted, newcomer)) = greeted else { return };
    let outrun = async {
        match &newcomer {
            Some(newcomer) => newcomer.outrun().await,
            None => std::future::pending().await,
        }
    };
    let talk = async {
        match greeted {
            Greeted::Plain(stream) => talk(stream, Peer::Local, service, calls, stop).await,
            Greeted::Tls(stream, peer) | Greeted::Stranger(stream, peer) => {
                talk(stream, peer, service, calls, stop).await;
            }
        }
    };
    tokio::select! {
        () = talk => {}
        () = outrun => {}
    }
}

/// Serves a connection to its end, or until whoever is on the other side is shut out.
async fn talk<S, T>(stream: T, peer: Peer, service: S, calls: Calls, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .max_send_buf_size(UNSENT as usize)
        .max_concurrent_streams(STREAMS);
    let hang_up = HangUp::default();
    let (calls_of_it, peer_of_it) = (calls.clone(), peer.clone());
    let service =
        Counted { service, calls: calls_of_it, hang_up: hang_up.clone(), peer: peer_of_it };
    let socket = TokioIo::new(Socket { stream, calls: calls.clone() });
    // Before the first call: of two that come at once, the guard or this sees the revocation.
    let shut_out = peer.shut_out();
    let mut connection = pin!(builder.serve_connection(socket, TowerToHyperService::new(service)));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop.cancelled() => None,
        () = calls.abandoned() => None,
        () = hang_up.0.cancelled() => None,
        // At once: nothing on its way is for it any longer.
        () = shut_out => return,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = calls.answered() => Ok(()),
            }
        }
    };
    if let Err(fault) = ended {
        tracing::debug!(error = %fault, "a connection broke");
    }
}

/// Sets what makes answers faster; without it they only arrive later.
fn prepare(stream: &TcpStream) {
    // Answers are small: waiting to fill a packet only delays them.
    drop(stream.set_nodelay(true));
    #[cfg(target_os = "linux")]
    drop(socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT));
}

#[cfg(test)]
mod tests;
