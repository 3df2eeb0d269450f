//! Goes the way of one request many times, for `tests/instructions.rs` to count what it takes.
//! The head is read from standard input; `KEY` in it stands for a key that is known. With the
//! argument `http2`, its header block is read and that of an answer written instead.

use std::{env, hint::black_box, io};

use fastgate_data_plane::bench::{HeaderBlocks, RequestPath};

// As the node has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Until caches are filled.
const WARM_UP: usize = 200;

/// So that what happens once in a while counts as often as it does.
const COUNTED: usize = 1000;

fn main() -> io::Result<()> {
    let head = io::read_to_string(io::stdin())?;
    if env::args().nth(1).as_deref() == Some("http2") {
        let mut blocks = HeaderBlocks::of(&head);
        count(|| blocks.run());
    } else {
        let mut path = RequestPath::of(&head);
        count(|| path.run());
    }
    Ok(())
}

fn count(mut run: impl FnMut() -> usize) {
    for _ in 0..WARM_UP {
        black_box(run());
    }
    for _ in 0..COUNTED {
        black_box(once(&mut run));
    }
}

#[inline(never)]
fn once(run: &mut impl FnMut() -> usize) -> usize {
    run()
}
