//! How many experts each layer gets, and what a network costs: the schedules.
//!
//! Parameters are what a network stores; active FLOPs are what one token costs, where only the chosen
//! experts count. Both follow from the shape alone: no network is built here.
//!
//! Run it: `cargo run --release --example 07_schedules`

use dynamoe::engine::arr;
use dynamoe::engine::gradcheck::random;
use dynamoe::engine::kernels::select;
use dynamoe::nn::router::OrAuto;
use dynamoe::nn::schedule::Schedule;
use dynamoe::train::config::{Config, ModelSettings};

/// How many tokens have k gates above the threshold of their row, for k = 0..=experts.
fn histogram(gates: &[f64], experts: usize, threshold: impl Fn(&[f64]) -> f64) -> Vec<usize> {
    let mut tokens = vec![0; experts + 1];
    for row in gates.chunks_exact(experts) {
        let mut chosen = vec![false; experts];
        select::above(row, experts, threshold(row), &mut chosen);
        tokens[chosen.iter().filter(|&&c| c).count()] += 1;
    }
    tokens
}

fn main() -> dynamoe::Result<()> {
    println!("4 layers of 1 to 8 experts, width 128, 28 x 28 images, tau 0.7:\n");
    println!("schedule      experts        active         parameters  active FLOPs");
    // What a learned one gives, only a training can tell.
    for (schedule, name) in Schedule::ALL.into_iter().filter(|(s, _)| *s != Schedule::Learned) {
        // `custom` takes this list; the others make their own.
        let experts = OrAuto::Set(vec![5, 4, 4, 5]);
        let model = ModelSettings { schedule, experts, ..ModelSettings::default() };
        let config = Config { model, ..Config::default() };
        let spec = config.spec(28 * 28, 10);
        let active: Vec<f64> = spec.experts.iter().map(|&e| spec.nominal_k(e)).collect();
        let (parameters, flops) = (spec.parameters(), spec.nominal_flops());
        let (experts, active) = (format!("{:?}", spec.experts), format!("{active:?}"));
        println!("{name:<12}  {experts:<13}  {active:<20} {parameters:>10}  {flops:>12}");
    }

    println!("\nToken scope, k = max(1, E - 1 - floor(tau (E - 1))):\n");
    println!("  tau   E = 8   E = 6   E = 3   E = 1");
    for tau in [0.0, 0.3, 0.5, 0.6, 0.7, 0.9] {
        let k = [8, 6, 3, 1].map(|experts| select::token_scope_k(experts, tau));
        println!("{tau:>5}   {:>5}   {:>5}   {:>5}   {:>5}", k[0], k[1], k[2], k[3]);
    }

    // The literal rule on the gates of 1000 made-up tokens: a percentile of a token's own eight gates
    // always leaves the same number above it, whatever the gates are. Over the whole batch it does not.
    let gates = random(&[1000, 8], 1);
    let gates = arr::data(&gates);
    let shared = select::percentile(gates, 0.7);
    println!("\n1000 tokens, 8 experts, tau 0.7: how many tokens have k = 0, 1, .. 8 experts?\n");
    println!("token scope: {:?}", histogram(gates, 8, |row| select::percentile(row, 0.7)));
    println!("batch scope: {:?}", histogram(gates, 8, |_| shared));
    Ok(())
}
