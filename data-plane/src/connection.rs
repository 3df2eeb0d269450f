//! One client connection: hyper on a socket, until its end or until its worker ends it.

use std::{convert::Infallible, future::poll_fn, net::IpAddr, pin::pin, rc::Rc, task::Poll};

use hyper::service::service_fn;
use hyper_util::{rt::TokioIo, server::conn::auto::Builder};
use tokio::net::TcpStream;

use crate::{
    executor::LocalExecutor,
    gateway::Gateway,
    shared::Shared,
    socket::Socket,
    watch::{Order, Watch},
};

/// Serves one connection to its end.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    http: Rc<Builder<LocalExecutor>>,
    worker: Rc<Shared>,
    watch: Rc<Watch>,
) {
    let gateway = Gateway::new(worker, peer, watch.clone());
    let socket = Socket::new(stream, watch.clone(), gateway.clone());
    // Not through `tower::Service`, whose futures are boxed.
    let service = service_fn(move |request| {
        let gateway = gateway.clone();
        async move { Ok::<_, Infallible>(gateway.serve(request).await) }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(socket), service));
    let mut finishing = false;
    poll_fn(|cx| {
        match watch.poll_order(cx) {
            Order::GoOn | Order::RefuseHead => {}
            Order::Finish if finishing => {}
            Order::Finish => {
                finishing = true;
                connection.as_mut().graceful_shutdown();
            }
            Order::Abort => return Poll::Ready(()),
        }
        // How a client's connection ends is of interest to nobody: each request has its record.
        connection.as_mut().poll(cx).map(drop)
    })
    .await;
}
