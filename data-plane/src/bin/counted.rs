//! Goes the way of one request many times, for `tests/instructions.rs` to count what it takes.
//! The head is read from standard input; `KEY` in it stands for a key that is known.

use std::{hint::black_box, io};

use fastgate_data_plane::bench::RequestPath;

// As the node has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Until caches are filled.
const WARM_UP: usize = 200;

/// So that what happens once in a while counts as often as it does.
const COUNTED: usize = 1000;

fn main() -> io::Result<()> {
    let head = io::read_to_string(io::stdin())?;
    let mut path = RequestPath::of(&head);
    for _ in 0..WARM_UP {
        black_box(path.run());
    }
    for _ in 0..COUNTED {
        black_box(once(&mut path));
    }
    Ok(())
}

#[inline(never)]
fn once(path: &mut RequestPath) -> usize {
    path.run()
}
