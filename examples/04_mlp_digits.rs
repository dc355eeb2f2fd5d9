//! A small network that reads handwritten digits: layers, mini-batches, an optimizer, a test set.
//!
//! Run it: `cargo run --release --example 04_mlp_digits`

use dynamoe::data::images::{gather, labels};
use dynamoe::data::{self, Standardize};
use dynamoe::engine::kernels::select;
use dynamoe::nn::{Init, Linear, optim::Optimizer};
use dynamoe::random::{Purpose, Stream};
use dynamoe::{Mode, Result, Tape, Var, arr};

struct Mlp {
    hidden: Linear<f32>,
    output: Linear<f32>,
}
dynamoe::module!(Mlp: f32 { hidden, output });

impl Mlp {
    /// Images (T, 64) to logits (T, 10): the larger a logit, the likelier the class.
    fn forward<'t>(&self, x: Var<'t, f32>) -> Result<Var<'t, f32>> {
        self.output.forward(self.hidden.forward(x)?.relu())
    }
}

fn main() -> Result<()> {
    let digits = data::load("digits", None)?;
    let standardize = Standardize::fit(&digits.train);
    let init = &mut Init::new(1);
    let mut model = Mlp { hidden: Linear::new(64, 64, init), output: Linear::new(64, 10, init) };
    let mut optimizer = Optimizer::adamw(&model);
    let test: Vec<u32> = (0..digits.test.len() as u32).collect();

    for epoch in 1..=10 {
        for batch in Stream::new(1, Purpose::Shuffle, 0, epoch).permutation(digits.train.len()).chunks(32) {
            let tape = Tape::new(Mode::Train);
            let logits = model.forward(tape.constant(gather(&digits.train, batch, &standardize)))?;
            let loss = logits.cross_entropy(&labels(&digits.train, batch));
            optimizer.step(&mut model, &tape.backward(loss)?, 2e-3)?;
        }
        let tape = Tape::new(Mode::Infer);
        let logits = model.forward(tape.constant(gather(&digits.test, &test, &standardize)))?.value();
        let correct = select::right(arr::data(&logits), 10, &labels(&digits.test, &test));
        println!("epoch {epoch:>2}: test accuracy {:.2}%", 100.0 * correct as f32 / test.len() as f32);
    }
    Ok(())
}
