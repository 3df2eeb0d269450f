//! The socket of a client connection. What is written to it is noted in the connection's [`Watch`].

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::io::poll_read_buf;

use crate::{tls::TlsStream, watch::Watch};

/// What a client connection runs over.
pub(crate) enum Stream {
    Plain(TcpStream),
    /// Boxed: it is many times as large.
    Tls(Box<TlsStream>),
}

/// A client's connection, read and written from several places of one task.
pub(crate) struct Socket {
    // Borrowed for single calls below.
    stream: RefCell<Stream>,
    watch: Rc<Watch>,
}

impl Socket {
    /// The socket of a connection that was accepted.
    pub(crate) fn new(stream: Stream, watch: Rc<Watch>) -> Self {
        Self { stream: RefCell::new(stream), watch }
    }

    /// Reads on behind what is in `buffer`; 0 at the end of the stream.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        poll_read_buf(Pin::new(&mut *self.stream.borrow_mut()), cx, buffer)
    }

    /// Ready when there is something to be read, if only the end.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.stream.borrow_mut() {
            Stream::Plain(tcp) => tcp.poll_read_ready(cx).map(drop),
            Stream::Tls(tls) => tls.poll_readable(cx).map(drop),
        }
    }

    /// Writes as much of these as the client takes. Over TLS it may still be on its way then:
    /// [`Socket::poll_flush`] is for before anything else is waited for.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut *self.stream.borrow_mut();
        let wrote = write_parts(stream, cx, parts);
        stream.note(&wrote, &self.watch);
        wrote
    }

    /// Ready when the client has taken all that was written.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self.stream.borrow_mut();
        let Stream::Tls(tls) = stream else { return Poll::Ready(Ok(())) };
        let flushed = Pin::new(&mut **tls).poll_flush(cx);
        stream.note(&flushed, &self.watch);
        flushed
    }

    /// Says that the connection ends here as it should, which TLS tells from being cut off.
    pub(crate) fn say_goodbye(&self) {
        match &mut *self.stream.borrow_mut() {
            Stream::Plain(_) => {}
            Stream::Tls(tls) => tls.say_goodbye(),
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }
}

impl Stream {
    /// Notes whether the client took something of what is written.
    fn note<T>(&self, outcome: &Poll<T>, watch: &Watch) {
        // Over TLS it may be of what was written before.
        if outcome.is_pending() && matches!(self, Self::Tls(tls) if tls.has_moved()) {
            watch.wrote(&Poll::Ready(()));
        }
        watch.wrote(outcome);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }
}

/// Writes as much of these as the other side takes. One part alone takes the cheaper call.
pub(crate) fn write_parts(
    stream: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut full = parts.iter().filter(|part| !part.is_empty());
    match (full.next(), full.next()) {
        (Some(one), None) => Pin::new(stream).poll_write(cx, one),
        _ => Pin::new(stream).poll_write_vectored(cx, parts),
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::Ipv4Addr, sync::Arc, time::Duration};

    use fastgate::model::Id;
    use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
    use tokio::{
        io::AsyncReadExt as _,
        net::{TcpListener, TcpSocket},
        time::{Instant, timeout},
    };
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::{settings::Settings, watch::Order};

    /// A client's end, and a node's, which the system lends little memory.
    async fn pair() -> (tokio_rustls::client::TlsStream<TcpStream>, Stream) {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("made");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("sound");
        let provider = Arc::new(ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider.clone());
        let client = client.with_safe_default_protocol_versions().expect("versions");
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider);
        let server = server.with_safe_default_protocol_versions().expect("versions");
        let key = made.signing_key.into();
        let server = server.with_no_client_auth().with_single_cert(vec![made.cert.into()], key);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let tcp = TcpSocket::new_v4().expect("a socket");
        socket2::SockRef::from(&tcp).set_tcp_mss(536).expect("set");
        tcp.set_recv_buffer_size(4096).expect("set");
        let tcp = tcp.connect(address).await.expect("connects");
        let (accepted, _) = listener.accept().await.expect("accepts");
        socket2::SockRef::from(&accepted).set_send_buffer_size(4096).expect("set");
        let server = Arc::new(server.expect("a config"));
        let mut tls = TlsStream::new(accepted, server).expect("a session");
        let connector = TlsConnector::from(Arc::new(client));
        let name = "localhost".try_into().expect("a name");
        let (client, shaken) =
            tokio::join!(connector.connect(name, tcp), poll_fn(|cx| tls.poll_handshake(cx)));
        shaken.expect("a handshake");
        (client.expect("a handshake"), Stream::Tls(Box::new(tls)))
    }

    /// Writes until the client takes no more; what the last call took is then still inside.
    async fn fill(socket: &Socket) -> usize {
        let part = vec![7; 64 * 1024];
        let mut written = 0;
        loop {
            let wrote = poll_fn(|cx| Poll::Ready(socket.poll_write(cx, &[IoSlice::new(&part)])));
            match wrote.await {
                Poll::Ready(wrote) => written += wrote.expect("written"),
                Poll::Pending => return written,
            }
        }
    }

    #[tokio::test]
    async fn what_the_client_takes_of_what_is_inside_counts() {
        let id = |text| Id::parse(text).expect("an id");
        let settings = Settings::new(id("default"), id("node-1"));
        let (mut client, stream) = pair().await;
        let watch = Watch::new(Instant::now());
        let socket = Socket::new(stream, watch.clone());
        let written = fill(&socket).await;
        let blocked = Instant::now();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut taken = 0;
        let mut part = [0; 8 * 1024];
        let order = loop {
            // What was sent of a record can't be read before the rest of it.
            let read = timeout(Duration::from_millis(5), client.read(&mut part)).await;
            taken += read.map_or(0, |read| read.expect("read"));
            let flushed = poll_fn(|cx| Poll::Ready(socket.poll_flush(cx))).await;
            let has_moved = matches!(&*socket.stream.borrow(), Stream::Tls(tls) if tls.has_moved());
            if has_moved {
                assert!(flushed.is_pending(), "all at once: nothing to be seen");
                let now = blocked + settings.body_timeout + Duration::from_millis(50);
                watch.patrol(now, &settings);
                break poll_fn(|cx| Poll::Ready(watch.poll_order(cx))).await;
            }
            assert!(taken < written, "{taken} of {written}");
        };
        assert!(order == Order::GoOn, "it moved a moment ago");
    }
}
