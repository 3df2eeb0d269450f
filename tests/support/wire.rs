//! A wire to a server that can be cut and mended, and slowed.

use std::{net, thread, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime, select,
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

/// A port that leads to another one while the wire is whole.
pub(crate) struct Wire {
    pub(crate) port: u16,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy)]
struct State {
    is_whole: bool,
    /// Every answer arrives so much later.
    late_by: Duration,
}

impl Wire {
    pub(crate) fn to(server: u16) -> Self {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (sender, state) = watch::channel(State { is_whole: true, late_by: Duration::ZERO });
        // On a thread of its own: a test blocks its thread while it waits for a program that may
        // need this wire.
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(carry(listener, server, state));
        });
        Self { port, state: sender }
    }

    /// Breaks all connections; new ones lead nowhere.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.is_whole = false);
    }

    pub(crate) fn mend(&self) {
        self.state.send_modify(|state| state.is_whole = true);
    }

    /// Holds every answer back for so long, also on the connections there are.
    pub(crate) fn slow_by(&self, late_by: Duration) {
        self.state.send_modify(|state| state.late_by = late_by);
    }
}

/// Carries bytes until the wire is dropped.
async fn carry(listener: net::TcpListener, server: u16, state: watch::Receiver<State>) {
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

async fn connect(near: TcpStream, server: u16, mut state: watch::Receiver<State>) {
    if !state.borrow().is_whole {
        // Nobody answers, as behind a broken network.
        let _ = state.wait_for(|state| state.is_whole).await;
        return;
    }
    let Ok(far) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((mut questions, near), (far, mut server)) = (near.into_split(), far.into_split());
    let late = state.clone();
    select! {
        _ = copy(&mut questions, &mut server) => {}
        () = answer(far, near, late) => {}
        _ = state.wait_for(|state| !state.is_whole) => {}
    }
}

/// Carries answers, in their order and as late as asked for.
async fn answer(mut far: OwnedReadHalf, mut near: OwnedWriteHalf, state: watch::Receiver<State>) {
    let (sender, mut receiver) = mpsc::channel(64);
    let read = async move {
        loop {
            let mut bytes = Vec::with_capacity(16 << 10);
            if !matches!(far.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
            let due = Instant::now() + state.borrow().late_by;
            if sender.send((due, bytes)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = receiver.recv().await {
            sleep_until(due).await;
            if near.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    // What was read before the end is written all the same.
    tokio::join!(read, write);
}
