//! Training in its smallest form: fit a line by walking downhill.
//!
//! The data follow `y = 2 x1 - 3 x2 + 1` with some noise. A step computes the mean squared error on a new
//! tape, asks the tape for the gradients, and moves weights and bias a little against them. No layer, no
//! optimizer: everything else in this crate is these four lines with more comfort.
//!
//! Run it: `cargo run --release --example 03_linear_regression`

use dynamoe::engine::gradcheck::random;
use dynamoe::{Mode, Result, Tape, arr};

fn main() -> Result<()> {
    const POINTS: usize = 200;
    let rate = 0.1;

    // The data: the same operations as below, on a tape that records nothing.
    let tape = Tape::new(Mode::Infer);
    let x = random(&[POINTS, 2], 1);
    let true_w = tape.constant(arr::from_vec(&[2, 1], vec![2.0, -3.0]));
    let noise = tape.constant(random(&[POINTS, 1], 2)).scale(0.1);
    let y = (tape.constant(x.clone()).matmul(true_w).shift(1.0) + noise).value();

    // What is to be found, starting from nothing.
    let mut w = arr::zeros(&[2, 1]);
    let mut b = arr::zeros(&[1]);

    println!("step       loss         w1         w2          b");
    for step in 0..=60 {
        let tape = Tape::new(Mode::Train);
        let (w_var, b_var) = (tape.variable(w.clone()), tape.variable(b.clone()));
        let prediction = tape.constant(x.clone()).matmul(w_var) + b_var;
        let loss = (prediction - tape.constant(y.clone())).powi(2).mean();
        if step % 10 == 0 {
            let loss = loss.item();
            println!("{step:>4} {loss:>10.5} {:>10.4} {:>10.4} {:>10.4}", w[[0, 0]], w[[1, 0]], b[[0]]);
        }
        let gradients = tape.backward(loss)?;
        w = arr::zip(&w, &gradients.wrt(w_var), |w, g| w - rate * g);
        b = arr::zip(&b, &gradients.wrt(b_var), |b, g| b - rate * g);
    }
    println!("\nfound: y = {:.3} x1 {:+.3} x2 {:+.3}", w[[0, 0]], w[[1, 0]], b[[0]]);
    println!("true:  y = 2 x1 -3 x2 +1, plus noise of variance 0.01: about that much loss has to remain.");
    Ok(())
}
