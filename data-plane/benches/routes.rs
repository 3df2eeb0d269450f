//! The route of a request among few and many.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fastgate_data_plane::bench::Routes;

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route match");
    for count in [1, 100, 10_000] {
        let routes = Routes::of(count);
        let paths: Vec<_> = (0..count).map(Routes::path).collect();
        let mut asked = paths.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| assert!(asked.next().is_some_and(|path| routes.take(black_box(path)))));
        });
    }
    group.finish();
}

criterion_group!(benches, routes);
criterion_main!(benches);
