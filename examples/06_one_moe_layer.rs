//! One layer of experts: only the chosen ones work, and the result is as if all had.
//!
//! Five tokens meet eight experts, and each token goes to two of them. The routed layer computes ten
//! expert outputs; the dense one computes all forty and multiplies thirty of them by a weight of zero.
//!
//! Run it: `cargo run --release --example 06_one_moe_layer`

use std::sync::Arc;

use dynamoe::engine::arr::{self, Arr};
use dynamoe::engine::gradcheck::random;
use dynamoe::engine::kernels::routes::Routes;
use dynamoe::nn::experts::Form;
use dynamoe::nn::moe::{Dispatch, Moe};
use dynamoe::nn::router::{Layer, percentile};
use dynamoe::nn::{Init, Phase};
use dynamoe::{Mode, Result, Tape};

const TOKENS: usize = 5;
const EXPERTS: usize = 8;
const WIDTH: usize = 6;

/// The largest absolute difference between two arrays of one shape.
fn difference(a: &Arr<f64>, b: &Arr<f64>) -> f64 {
    arr::zip(a, b, |a, b| (a - b).abs()).fold(0.0, |worst, &d| worst.max(d))
}

fn main() -> Result<()> {
    let settings =
        percentile::Settings { tau: 0.8, temperature: 0.1, noise: 0.0, ..Default::default() }.into();
    let place = Layer { number: 0, width: WIDTH, experts: EXPERTS };
    let layer = Moe::<f64>::routed(place, 16, Form::Relu, &settings, &mut Init::new(1));
    let tokens = random(&[TOKENS, WIDTH], 1);

    // Routed: the layer as training uses it.
    let tape = Tape::new(Mode::Train);
    let x = tape.variable(tokens.clone());
    let (routed, Dispatch { usage, .. }) = layer.forward(x, Phase::Eval)?;

    // Dense: the same weights, but every token goes to every expert.
    let routing = layer.router.as_ref().expect("a routed layer has a router").route(x, Phase::Eval)?;
    let everyone = Arc::new(Routes::new(&[true; TOKENS * EXPERTS], EXPERTS));
    let dense = layer.experts.forward(x, routing.gates, everyone)?;

    println!("The weight of each expert for each token; a dot where it was not chosen:\n");
    println!("        {}", (0..EXPERTS).map(|e| format!(" expert {e}")).collect::<String>());
    for (t, row) in routing.gates.value().outer_iter().enumerate() {
        let cell = |&w: &f64| if w > 0.0 { format!("{w:>9.3}") } else { format!("{:>9}", ".") };
        println!("token {t} {}", row.iter().map(cell).collect::<String>());
    }
    println!("served  {}", usage.counts.iter().map(|count| format!("{count:>9}")).collect::<String>());
    println!("\nrouted and dense: outputs differ by {:e}", difference(&routed.value(), &dense.value()));

    // An expert that served no token does not affect the result: its gradient is zero.
    let w1 = layer.experts.first_weights().on(&tape);
    let loss = routed.powi(2).mean();
    let gradients = tape.backward(loss)?;
    println!("\nThe largest gradient among the first weights of each expert:\n");
    for (e, gradient) in gradients.wrt(w1).outer_iter().enumerate() {
        let largest = gradient.fold(0.0f64, |largest, g| largest.max(g.abs()));
        println!("expert {e}: {largest:.6}, tokens served: {}", usage.counts[e]);
    }

    // The teaching mode spells the layer out in small operations: more nodes, the same numbers.
    let teach = Tape::new(Mode::Teach);
    let slow_x = teach.variable(tokens);
    let (slow, _) = layer.forward(slow_x, Phase::Eval)?;
    let slow_gradients = teach.backward(slow.powi(2).mean())?;
    println!("\nteaching mode: outputs differ by {:.0e}", difference(&routed.value(), &slow.value()));
    let (fast, slow) = (gradients.wrt(x), slow_gradients.wrt(slow_x));
    println!("teaching mode: gradients of the tokens differ by {:.0e}", difference(&fast, &slow));
    Ok(())
}
