//! What starting any program needs: commands that run to their end, and free ports.

use std::{
    net::TcpListener,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

pub(crate) fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|fault| panic!("{command:?}: {fault}"))
}

pub(crate) fn run_ok(command: &mut Command) -> String {
    let output = run(command);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out
}

/// A port nobody listens on at the moment, another one at each call. It lies below those the
/// system gives to outgoing connections, or one of the test's own could take it before the
/// program it is meant for does, at its start or at a restart.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Test programs that run side by side begin at different ports.
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let offset = start.wrapping_add(TAKEN.fetch_add(1, SeqCst)) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("below 65536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {FIRST} to {} is free", FIRST + COUNT);
}
