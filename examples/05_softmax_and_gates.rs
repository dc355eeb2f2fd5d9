//! How a router decides: softmax, noise, percentile, temperature. And how to check a softmax.
//!
//! A router gives each token one number per expert (a logit). Softmax turns a token's logits into gates
//! that add up to 1; in training, noise is added, so that other experts get a chance; the gates above a
//! percentile are chosen; and a softmax over the chosen ones, sharper the lower the temperature, weighs
//! what those experts say.
//!
//! Run it: `cargo run --release --example 05_softmax_and_gates`

use dynamoe::engine::arr::{self, Arr};
use dynamoe::engine::gradcheck::{gradcheck, random};
use dynamoe::engine::kernels::select;
use dynamoe::engine::tape::Ctx;
use dynamoe::{Mode, Op, Result, Tape, Var};

/// A softmax whose backward pass is wrong: right is `y * (g - sum(g * y))`, and here `y *` is missing.
struct WrongSoftmax;

impl Op<f64, 1> for WrongSoftmax {
    const NAME: &'static str = "wrong_softmax";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<f64>; 1]) -> Result<(Arr<f64>, ())> {
        Ok((Tape::new(Mode::Infer).constant(x.clone()).softmax().value(), ()))
    }
    fn backward(&self, ctx: Ctx<f64, (), 1>, gy: &Arr<f64>) -> [Option<Arr<f64>>; 1] {
        let common = arr::zip(gy, ctx.y, |g, y| g * y).sum();
        [Some(arr::map(gy, |g| g - common))]
    }
}

fn main() -> Result<()> {
    const EXPERTS: usize = 4;
    const TAU: f64 = 0.4;

    // One token, four experts.
    let tape = Tape::new(Mode::Infer);
    let logits = tape.constant(arr::from_vec(&[1, EXPERTS], vec![1.0, 0.2, -0.5, 0.9]));
    let gates = logits.softmax();
    let noisy = (gates + tape.constant(random(&[1, EXPERTS], 5)).scale(0.1)).value();

    // The rule: chosen is what lies strictly above the percentile of the token's own gates.
    let threshold = select::percentile(arr::data(&noisy), TAU);
    let mut chosen = [false; EXPERTS];
    select::above(arr::data(&noisy), EXPERTS, threshold, &mut chosen);
    let weights = |temperature: f64| {
        tape.constant(noisy.clone()).scale(1.0 / temperature).masked_softmax(chosen.into()).value()
    };
    let (soft, sharp) = (weights(0.5), weights(0.05));

    println!("chosen: noisy gate above {threshold:.3}, the {TAU} percentile of the four\n");
    println!("expert   logit    gate   noisy  chosen  weight at T = 0.5  at T = 0.05");
    for e in 0..EXPERTS {
        let [logit, gate, noisy, soft, sharp] =
            [&logits.value(), &gates.value(), &noisy, &soft, &sharp].map(|a| a[[0, e]]);
        let mark = if chosen[e] { "yes" } else { "-" };
        println!("{e:>6}  {logit:>6.2}  {gate:>6.3}  {noisy:>6.3}  {mark:>6}  {soft:>17.3}  {sharp:>11.3}");
    }

    // sum(softmax(x)) is 1 whatever x is, so its gradient is 0; and the wrong one is 0 there, too.
    let sum = gradcheck([random(&[5], 1)], |[x]| Ok(Var::apply(WrongSoftmax, [x]).sum()))?;
    let each = gradcheck([random(&[5], 1)], |[x]| Ok(Var::apply(WrongSoftmax, [x])))?;
    println!("\nA softmax with a wrong gradient,");
    println!("  checked through a plain sum:         largest error {:.1e}: it seems right", sum.worst);
    println!("  checked through random multiples:    largest error {:.1e}: it is not", each.worst);
    Ok(())
}
