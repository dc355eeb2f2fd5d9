//! A derivative three ways: by hand, by the tape, and by a difference.
//!
//! The function is `f(x) = x^2 tanh(x)` of one number. The tape writes down each small step of the
//! computation as a node; walking back over the nodes, the chain rule gives the derivative.
//!
//! Run it: `cargo run --release --example 01_scalar`

use dynamoe::engine::kernels::scalar::Scalar;
use dynamoe::{Mode, Result, Tape, arr};

/// The function on plain numbers. `Scalar::tanh` is the same to the last bit on every computer.
fn f(x: f64) -> f64 {
    x * x * Scalar::tanh(x)
}

/// Its derivative by hand: the product rule, and `tanh' = 1 - tanh^2`.
fn derivative(x: f64) -> f64 {
    let t = Scalar::tanh(x);
    2.0 * x * t + x * x * (1.0 - t * t)
}

fn main() -> Result<()> {
    let at = 1.5;

    // The same function on the tape. A variable is an array; a number is an array without axes.
    let tape = Tape::new(Mode::Train);
    let x = tape.variable(arr::full(&[], at));
    let y = x * x * x.tanh();

    println!("f(x) = x^2 tanh(x) at x = {at}: {:.6} by hand, {:.6} on the tape\n", f(at), y.item());
    println!("The tape after the forward pass: number, operation, inputs, value.\n{tape}");
    println!("Every input stands before its user, so one loop from the last node to the first suffices.");
    println!("A node passes its gradient on to its inputs; x is used three times, and the parts add up.\n");

    // A difference needs no rule at all, but it is only an approximation.
    let step = 1e-5;
    let difference = (f(at + step) - f(at - step)) / (2.0 * step);

    println!("f'({at}) by hand:       {:.12}", derivative(at));
    println!("f'({at}) by tape:       {:.12}", tape.backward(y)?.wrt(x));
    println!("f'({at}) by difference: {difference:.12}");
    Ok(())
}
