//! Steady training allocates nothing that grows; one image is classified without waking a thread.

use std::alloc::System;

use dynamoe::engine::kernels::par;
use dynamoe::engine::kernels::random::{Purpose, Stream};
use dynamoe::nn::optim::{Optimizer, Settings};
use dynamoe::nn::{Init, Model, Phase};
use dynamoe::train::{config::Config, step};
use dynamoe::{Mode, Tape, arr};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test, since the counts are those of the whole process.
#[test]
fn allocations_do_not_grow_from_step_to_step_and_one_image_wakes_no_thread() {
    par::with_threads(2, || {
        let config = Config::default();
        let mut model = Model::<f32>::new(&config.spec(784, 10), &mut Init::new(1));
        let mut optimizer = Optimizer::new(Settings::ADAMW, &model);
        let mut x = vec![0.0; 256 * 784];
        Stream::new(1, Purpose::Check, 0, 0).normal(&mut x, 1.0);
        let targets: Vec<u32> = (0..256).map(|i| i % 10).collect();
        // Allocations and bytes still held after some steps.
        let mut steps = |count: usize| {
            let before = ALLOCATOR.stats();
            for _ in 0..count {
                // A buffer from the pool, as the trainer's batches are.
                let mut batch = arr::uninit(&[256, 784]);
                arr::data_mut(&mut batch).copy_from_slice(&x);
                step(&mut model, &mut optimizer, batch, targets.clone(), 1, 1e-3, 0.0).unwrap();
            }
            let after = ALLOCATOR.stats();
            let held = |s: &stats_alloc::Stats| s.bytes_allocated as i64 - s.bytes_deallocated as i64;
            ((after.allocations - before.allocations) / count, held(&after) - held(&before))
        };
        steps(20);
        let (early, _) = steps(20);
        let (late, grown) = steps(40);
        println!("allocations per step: {early}, later {late}; bytes grown in 40 steps: {grown}");
        assert!(late <= early + early / 10, "{early} allocations a step became {late}");
        assert!(grown < 1 << 16, "{grown} bytes grew in 40 steps");

        let one = arr::from_vec(&[1, 784], x[..784].to_vec());
        let classify = || {
            let tape = Tape::new(Mode::Infer);
            model.forward(tape.constant(one.clone()), Phase::Eval).unwrap();
        };
        classify();
        let (before, regions) = (ALLOCATOR.stats(), par::regions());
        (0..10).for_each(|_| classify());
        let each = (ALLOCATOR.stats().allocations - before.allocations) / 10;
        println!("allocations for one image: {each}");
        assert_eq!(par::regions(), regions, "one image is not worth a second thread");
        assert!(each < 120, "{each} allocations for one image");
    });
}
