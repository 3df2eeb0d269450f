//! Keys of a node: to take in a snapshot of them, to change one, to find one.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fastgate_data_plane::bench::{Cold, Node};

// As the node has it: allocation is much of the work.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const COUNTS: [u64; 2] = [10_000, 1_000_000];

fn keys(criterion: &mut Criterion) {
    for count in COUNTS {
        let cold = Cold::keys(count);
        let mut group = criterion.benchmark_group("full load");
        group.sample_size(10).measurement_time(Duration::from_secs(10));
        group.bench_with_input(BenchmarkId::from_parameter(count), &cold, |bencher, cold| {
            bencher.iter_with_large_drop(|| Node::load(cold));
        });
        group.finish();

        let mut node = Node::load(&cold);
        drop(cold);
        let mut group = criterion.benchmark_group("one delta");
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| node.timed_change()).sum());
        });
        group.finish();

        let mut group = criterion.benchmark_group("key lookup");
        let mut number = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                number = (number + 7_919) % count;
                assert!(node.opens(black_box(number)));
            });
        });
        group.finish();
    }
}

criterion_group!(benches, keys);
criterion_main!(benches);
