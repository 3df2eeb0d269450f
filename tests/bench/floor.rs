//! The least a gateway can be: one thread, epoll, kept upstream connections.
//!
//! `floor LISTEN UPSTREAM` forwards HTTP/1.1 requests and answers whose heads name their length. It
//! checks nothing, changes nothing and records nothing: what a gateway takes beyond it is its work.

#![allow(
    clippy::indexing_slicing,
    reason = "tokens are places in the list, lengths are those of what was read"
)]

use std::{
    env,
    error::Error,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

const LISTENER: Token = Token(usize::MAX);
/// Read at once.
const BUFFER: usize = 64 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let addresses: Vec<SocketAddr> =
        env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [listen, upstream] = addresses[..] else {
        return Err("usage: floor LISTEN UPSTREAM".into());
    };
    let mut floor = Floor {
        poll: Poll::new()?,
        upstream,
        ends: Vec::new(),
        idle: Vec::new(),
        free: Vec::new(),
        buffer: vec![0; BUFFER],
    };
    let mut listener = TcpListener::bind(listen)?;
    floor.poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    loop {
        floor.poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => floor.accept(&listener)?,
                Token(at) => floor.serve(at, event.is_writable()),
            }
        }
    }
}

/// All connections, by token.
struct Floor {
    poll: Poll,
    upstream: SocketAddr,
    ends: Vec<Option<End>>,
    /// Upstream connections no request is under way on, the last one used on top.
    idle: Vec<usize>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

/// One end of the forwarding: a client's connection, or one to the upstream.
struct End {
    stream: TcpStream,
    is_client: bool,
    /// Where what is read here goes to, while a request is under way.
    peer: Option<usize>,
    /// Bytes of the message that is read here which have still to come.
    left: usize,
    /// A head that has not come to its end.
    head: Vec<u8>,
    /// What the socket did not take.
    unsent: Vec<u8>,
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => drop(self.add(stream, true)?),
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(fault) => return Err(fault),
            }
        }
    }

    fn add(&mut self, mut stream: TcpStream, is_client: bool) -> io::Result<usize> {
        stream.set_nodelay(true)?;
        let at = self.free.pop().unwrap_or(self.ends.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(at), interest)?;
        let (head, unsent) = (Vec::new(), Vec::new());
        let end = End { stream, is_client, peer: None, left: 0, head, unsent };
        if at == self.ends.len() {
            self.ends.push(Some(end));
        } else {
            self.ends[at] = Some(end);
        }
        Ok(at)
    }

    /// Takes what there is to read or to write on a connection; closes it when that fails.
    fn serve(&mut self, at: usize, is_writable: bool) {
        if (is_writable && self.flush(at).is_err()) || self.read(at).is_err() {
            self.close(at);
        }
    }

    fn read(&mut self, at: usize) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = self.read_into(at, &mut buffer);
        self.buffer = buffer;
        outcome
    }

    fn read_into(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let Some(end) = self.ends[at].as_mut() else { return Ok(()) };
            match end.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    self.forward(at, &buffer[..length])?;
                    // A buffer that is not full means that there is no more.
                    if length < buffer.len() {
                        return Ok(());
                    }
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Sends on what was read. Requests are not pipelined: one message is under way at a time.
    fn forward(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let Some(end) = self.ends[at].as_mut() else { return Ok(()) };
        if end.left > 0 {
            end.left = end.left.saturating_sub(bytes.len());
        } else if end.head.is_empty() && length_of(bytes).is_some() {
            end.left = length_of(bytes).unwrap_or_default().saturating_sub(bytes.len());
        } else {
            end.head.extend_from_slice(bytes);
            let Some(length) = length_of(&end.head) else { return Ok(()) };
            end.left = length.saturating_sub(end.head.len());
            let head = std::mem::take(&mut end.head);
            return self.pass_on(at, &head);
        }
        self.pass_on(at, bytes)
    }

    fn pass_on(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let Some(end) = self.ends[at].as_ref() else { return Ok(()) };
        let is_answered = !end.is_client && end.left == 0;
        let peer = match end.peer {
            Some(peer) => peer,
            None if end.is_client => self.pair(at)?,
            None => return Err(io::ErrorKind::InvalidData.into()),
        };
        self.send(peer, bytes);
        if is_answered {
            for end in [at, peer] {
                if let Some(end) = self.ends[end].as_mut() {
                    end.peer = None;
                }
            }
            self.idle.push(at);
        }
        Ok(())
    }

    /// An upstream connection for the request of a client.
    fn pair(&mut self, client: usize) -> io::Result<usize> {
        let upstream = match self.idle.pop() {
            Some(idle) => idle,
            None => self.add(TcpStream::connect(self.upstream)?, false)?,
        };
        for (at, peer) in [(client, upstream), (upstream, client)] {
            if let Some(end) = self.ends[at].as_mut() {
                end.peer = Some(peer);
            }
        }
        Ok(upstream)
    }

    fn send(&mut self, at: usize, bytes: &[u8]) {
        let Some(end) = self.ends[at].as_mut() else { return };
        let sent = match end.unsent.is_empty() {
            // What fails shows again when it is read.
            true => end.stream.write(bytes).unwrap_or_default(),
            false => 0,
        };
        end.unsent.extend_from_slice(&bytes[sent..]);
    }

    fn flush(&mut self, at: usize) -> io::Result<()> {
        let Some(end) = self.ends[at].as_mut() else { return Ok(()) };
        while !end.unsent.is_empty() {
            match end.stream.write(&end.unsent) {
                Ok(sent) => drop(end.unsent.drain(..sent)),
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    fn close(&mut self, at: usize) {
        let Some(end) = self.ends[at].take() else { return };
        self.idle.retain(|idle| *idle != at);
        self.free.push(at);
        if let Some(peer) = end.peer {
            self.close(peer);
        }
    }
}

/// The length of a message whose head is complete: of the head and what follows it.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let length = bytes[..head]
        .split(|byte| *byte == b'\n')
        .find_map(|line| {
            let (name, value) = line.split_at_checked(15)?;
            name.eq_ignore_ascii_case(b"content-length:").then_some(value)
        })
        .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok())
        .unwrap_or(0);
    Some(head + length)
}
