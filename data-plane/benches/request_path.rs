//! What a request costs between its head and the one for the upstream, and parts of that.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use fastgate_data_plane::bench::{LeaseHit, RequestPath};

// As the node has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HEAD: &str = "GET /api/orders/17?page=2 HTTP/1.1\r\nHost: gateway.example\r\n\
                    User-Agent: bench/1.0\r\nX-API-Key: KEY\r\n\r\n";

fn request_path(criterion: &mut Criterion) {
    let mut path = RequestPath::of(HEAD);
    let mut bench = |name, part: fn(&mut RequestPath) -> bool| {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|times| in_rounds(times, &mut path, part));
        });
    };
    bench("authenticate", RequestPath::authenticate);
    bench("limit", RequestPath::limit);
    bench("record", |path| {
        path.record();
        true
    });
    bench("from head to head", |path| path.run() > 0);
    let mut hit = LeaseHit::ready();
    criterion.bench_function("limits of a key and a route by tokens leased", |bencher| {
        bencher.iter(|| assert!(black_box(hit.admit())));
    });
}

/// What a part of the way takes so many times. Each ends in a record; those are taken, as a node
/// ships them, without being timed.
fn in_rounds(times: u64, path: &mut RequestPath, part: fn(&mut RequestPath) -> bool) -> Duration {
    let mut took = Duration::ZERO;
    let mut left = times;
    while left > 0 {
        let round = left.min(RequestPath::ROUND);
        let began = Instant::now();
        for _ in 0..round {
            assert!(black_box(part(path)));
        }
        took += began.elapsed();
        assert_eq!(path.take_records(), round, "all were recorded");
        left -= round;
    }
    took
}

criterion_group!(benches, request_path);
criterion_main!(benches);
