//! What an audit event costs behind the request: encoded, and written to the spool.

#![allow(clippy::expect_used, reason = "a benchmark of what fails would measure nothing")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fastgate_data_plane::bench::{Batches, RequestPath};

// As the node has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HEAD: &str = "GET /api/orders/17?page=2 HTTP/1.1\r\nHost: gateway.example\r\n\
                    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
                    X-API-Key: KEY\r\n\r\n";

fn audit(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut path = RequestPath::of(HEAD);
    let mut batches = path.batches(dir.path());
    let mut group = criterion.benchmark_group("audit events");
    group.throughput(Throughput::Elements(RequestPath::ROUND));
    let mut bench = |name, timed: fn(&mut Batches) -> Duration| {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    (0..RequestPath::ROUND).for_each(|_| assert!(path.run() > 0));
                    took += timed(&mut batches);
                }
                took
            });
        });
    };
    bench("encode", |batches| {
        let began = Instant::now();
        assert_eq!(black_box(batches.encode()), RequestPath::ROUND);
        let took = began.elapsed();
        batches.write();
        took
    });
    bench("encode and write", |batches| {
        let began = Instant::now();
        assert_eq!(black_box(batches.encode()), RequestPath::ROUND);
        batches.write();
        began.elapsed()
    });
}

criterion_group!(benches, audit);
criterion_main!(benches);
