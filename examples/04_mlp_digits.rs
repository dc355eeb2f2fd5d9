//! A small network that reads digits: layers, mini-batches, an optimizer, a test split.
//!
//! The images are the 8 x 8 digits that come with this crate. The network is two linear layers with a relu
//! between them. A model is a struct of layers; its `visit` names the parts, so that the optimizer finds
//! the parameters.
//!
//! Run it: `cargo run --release --example 04_mlp_digits`

use dynamoe::data::{self, Standardize};
use dynamoe::engine::kernels::random::{Purpose, Stream};
use dynamoe::engine::kernels::select;
use dynamoe::nn::linear::Linear;
use dynamoe::nn::optim::{self, Optimizer};
use dynamoe::nn::{Init, Module, Visitor, param};
use dynamoe::train::examples::{gather, labels};
use dynamoe::{Mode, Result, Tape, Var, arr};

struct Mlp {
    hidden: Linear<f32>,
    output: Linear<f32>,
}

impl Mlp {
    /// Images (T, 64) to logits (T, 10): the larger a logit, the likelier the class.
    fn forward<'t>(&self, x: Var<'t, f32>) -> Result<Var<'t, f32>> {
        self.output.forward(self.hidden.forward(x)?.relu())
    }
}

impl Module<f32> for Mlp {
    fn visit(&mut self, v: &mut Visitor<'_, f32>) {
        let Mlp { hidden, output } = self;
        v.child("hidden", hidden);
        v.child("output", output);
    }
}

fn main() -> Result<()> {
    const SEED: u64 = 1;
    const BATCH: usize = 32;
    let digits = data::load("digits", None)?;
    let standardize = Standardize::fit(&digits.train);
    println!("{} images to learn from, {} to be judged on", digits.train.len(), digits.test.len());

    let init = &mut Init::new(SEED);
    let mut model = Mlp {
        hidden: Linear::new(digits.train.features(), 64, init),
        output: Linear::new(64, digits.classes, init),
    };
    param::number(&mut model);
    let mut optimizer = Optimizer::new(optim::Settings::ADAMW, &mut model);

    let test: Vec<u32> = (0..digits.test.len() as u32).collect();
    for epoch in 1..=10 {
        let order = Stream::new(SEED, Purpose::Shuffle, 0, epoch).permutation(digits.train.len());
        let mut total = 0.0;
        for batch in order.chunks(BATCH) {
            let tape = Tape::new(Mode::Train);
            let logits = model.forward(tape.constant(gather(&digits.train, batch, &standardize)))?;
            let loss = logits.cross_entropy(&labels(&digits.train, batch));
            let gradients = optim::collect(&mut model, &mut tape.backward(loss)?)?;
            optimizer.step(&mut model, &gradients, 2e-3, 1.0);
            total += loss.item() * batch.len() as f32;
        }
        let tape = Tape::new(Mode::Infer);
        let logits = model.forward(tape.constant(gather(&digits.test, &test, &standardize)))?.value();
        let right = select::right(arr::data(&logits), digits.classes, &labels(&digits.test, &test));
        let (loss, accuracy) = (total / order.len() as f32, 100.0 * right as f32 / test.len() as f32);
        println!("epoch {epoch:>2}: training loss {loss:.4}, test accuracy {accuracy:.2}%");
    }
    Ok(())
}
