//! An operation of your own: a forward, a backward, and a check that they belong together.
//!
//! Softplus, `ln(1 + e^x)`, is a smooth relu. It can be put together from operations that exist, but then
//! `e^x` overflows; written as one operation it need not. A gradient check compares the backward pass with
//! differences, and finds the mistake in a second, wrong version.
//!
//! Run it: `cargo run --release --example 02_your_own_op`

use dynamoe::engine::arr::{self, Arr};
use dynamoe::engine::gradcheck::{gradcheck, random};
use dynamoe::engine::kernels::elem::Elem;
use dynamoe::engine::tape::Ctx;
use dynamoe::{Mode, Op, Result, Tape, Var};

/// `ln(1 + e^x)` of every element.
struct Softplus;

impl<F: Elem> Op<F, 1> for Softplus {
    const NAME: &'static str = "softplus";
    type Saved = ();
    /// As `max(x, 0) + ln(1 + e^-|x|)`: the same number, and the exponential cannot overflow.
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        let softplus = |x: F| x.larger(F::zero()) + (F::one() + (-x.larger(-x)).exp()).ln();
        Ok((arr::map(x, softplus), ()))
    }
    /// The chain rule: the gradient of the output times the slope, which is the sigmoid of x.
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        [Some(arr::zip(ctx.x[0], gy, |x, g| g * x.sigmoid()))]
    }
}

/// `x^3`, whose backward pass has lost the factor 3.
struct WrongCube;

impl<F: Elem> Op<F, 1> for WrongCube {
    const NAME: &'static str = "wrong_cube";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        Ok((arr::map(x, |x| x * x * x), ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        [Some(arr::zip(ctx.x[0], gy, |x, g| g * x * x))]
    }
}

fn main() -> Result<()> {
    let tape = Tape::new(Mode::Train);
    let x = tape.variable(arr::from_vec(&[3], vec![-1.0f32, 0.0, 1000.0]));
    let composed = x.exp().shift(1.0).ln();
    let own = Var::apply(Softplus, [x]);
    println!("x                  {}", x.value());
    println!("ln(exp(x) + 1)     {}   gradient {}", composed.value(), tape.backward(composed.sum())?.wrt(x));
    println!("Softplus           {}   gradient {}\n", own.value(), tape.backward(own.sum())?.wrt(x));

    // One closure each: what is checked may be a single operation or a whole network.
    let right = gradcheck([random(&[10], 1)], |[x]| Ok(Var::apply(Softplus, [x])))?;
    let wrong = gradcheck([random(&[10], 1)], |[x]| Ok(Var::apply(WrongCube, [x])))?;
    for (name, report) in [("Softplus", right), ("WrongCube", wrong)] {
        let verdict = if report.passed() { "passed" } else { "FAILED" };
        println!(
            "{name:<10} {verdict}: {} derivatives, largest error {:.1e}",
            report.derivatives, report.worst
        );
    }
    Ok(())
}
