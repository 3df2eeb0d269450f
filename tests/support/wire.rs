//! A wire to a server that can be cut and mended.

use std::{net, thread};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime, select,
    sync::watch,
};

/// A port that leads to another one while the wire is whole.
pub(crate) struct Wire {
    pub(crate) port: u16,
    is_whole: watch::Sender<bool>,
}

impl Wire {
    pub(crate) fn to(server: u16) -> Self {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (is_whole, state) = watch::channel(true);
        // On a thread of its own: a test blocks its thread while it waits for a program that may
        // need this wire.
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(carry(listener, server, state));
        });
        Self { port, is_whole }
    }

    /// Breaks all connections; new ones lead nowhere.
    pub(crate) fn cut(&self) {
        self.is_whole.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.is_whole.send_replace(true);
    }
}

/// Carries bytes until the wire is dropped.
async fn carry(listener: net::TcpListener, server: u16, state: watch::Receiver<bool>) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = TcpListener::from_std(listener).expect("a runtime");
    let mut changes = state.clone();
    loop {
        select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { return };
                tokio::spawn(connect(near, server, state.clone()));
            }
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

async fn connect(mut near: TcpStream, server: u16, mut state: watch::Receiver<bool>) {
    if !*state.borrow_and_update() {
        // Nobody answers, as behind a broken network.
        return drop(state.changed().await);
    }
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = state.changed() => {}
    }
}
