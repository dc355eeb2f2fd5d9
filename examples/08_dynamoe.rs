//! A whole DynaMoE network: trained twice, on one thread and on three, to the same bits.
//!
//! Each layer chooses its experts by a percentile over the whole batch, so an easy token may get one expert and a
//! hard one several. Random numbers are addressed by seed and step, and no sum depends on how the work is
//! distributed: so the digest of all parameters does not depend on the number of threads.
//!
//! Run it: `cargo run --release --example 08_dynamoe`

use dynamoe::Result;
use dynamoe::data::{self, Dataset};
use dynamoe::engine::kernels::par;
use dynamoe::engine::kernels::random::{Purpose, Stream};
use dynamoe::nn::optim::Optimizer;
use dynamoe::nn::router::percentile::{self, Scope};
use dynamoe::nn::{Init, Model};
use dynamoe::train::config::{Config, ModelSettings, OptimizerSettings, TrainSettings};
use dynamoe::train::evaluate::evaluate;
use dynamoe::train::{State, step};

/// Trains the network of `config` and returns the digest of its parameters.
fn train(config: &Config, digits: &Dataset) -> Result<String> {
    let spec = config.spec(digits.encoding.features(), digits.encoding.classes());
    let mut model = Model::<f32>::new(&spec, &mut Init::new(config.train.seed));
    let mut optimizer = Optimizer::new(config.optimizer_settings(), &model);
    println!("threads: {}, parameters: {}, experts: {:?}", par::threads(), spec.parameters(), spec.experts);
    for epoch in 0..config.train.epochs {
        let shuffle = Stream::new(config.train.seed, Purpose::Shuffle, 0, epoch as u64);
        for batch in shuffle.permutation(digits.train.len()).chunks(config.train.batch) {
            let (x, targets) = digits.train.batch(batch);
            step(
                &mut model,
                &mut optimizer,
                x,
                targets,
                config.train.seed,
                config.optimizer.lr,
                config.optimizer.clip_norm,
            )?;
        }
        let (scores, layers) = evaluate(&model, &digits.test)?;
        print!("epoch {}: test accuracy {:.2}%", epoch + 1, 100.0 * scores.test_accuracy);
        for (l, layer) in layers.iter().enumerate() {
            let (active, bits) = (layer.mean_active, layer.usage_entropy_bits);
            print!("; layer {}: {active:.2} of {} active, entropy {bits:.2} bits", l + 1, layer.experts);
        }
        println!();
    }
    Ok(State::of(&model, None).digest())
}

fn main() -> Result<()> {
    let digits = Dataset::from(data::load("digits", None)?);
    let config = Config {
        model: ModelSettings { layers: 2, width: 32, experts_min: 4, ..ModelSettings::default() },
        router: percentile::Settings { percentile_scope: Scope::Batch, ..Default::default() }.into(),
        optimizer: OptimizerSettings { lr: 5e-3, ..OptimizerSettings::default() },
        train: TrainSettings { batch: 32, epochs: 5, ..TrainSettings::default() },
        ..Config::default()
    };
    let mut digests = Vec::new();
    for threads in [1, 3] {
        let digest = par::with_threads(threads, || train(&config, &digits))?;
        println!("digest {digest}\n");
        digests.push(digest);
    }
    let verdict = if digests[0] == digests[1] { "the same" } else { "DIFFERENT" };
    println!("The two digests are {verdict}.");
    Ok(())
}
