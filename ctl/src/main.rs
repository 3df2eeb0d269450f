//! `fgctl`: drives FastGate, and runs a whole one with `fgctl dev`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    fgctl::run(std::env::args_os())
}
