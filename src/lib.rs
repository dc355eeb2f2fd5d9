//! dynamoe: a CPU tensor engine that trains mixture-of-experts networks, reproducible to the bit.
//!
//! The number of active experts may vary from token to token, and the number of experts from layer to
//! layer. The same configuration, data and seed give the same bits on any processor and any number of
//! threads.
//!
//! ```
//! use dynamoe::nn::router::{Layer, Settings};
//! use dynamoe::nn::{Init, Linear, Phase, experts::Form, moe::Moe, optim::Optimizer};
//! use dynamoe::random::{Purpose, Stream};
//! use dynamoe::{Mode, Result, Tape, Var, arr};
//!
//! // A network with one mixture-of-experts layer, around which runs a residual connection.
//! struct Net {
//!     input: Linear<f32>,
//!     moe: Moe<f32>,
//!     output: Linear<f32>,
//! }
//! dynamoe::module!(Net: f32 { input, moe, output });
//!
//! impl Net {
//!     fn forward<'t>(&self, x: Var<'t, f32>, phase: Phase) -> Result<Var<'t, f32>> {
//!         let h = self.input.forward(x)?;
//!         let (y, _) = self.moe.forward(h, phase)?;
//!         self.output.forward(h + y)
//!     }
//! }
//!
//! // Points in the plane, in two classes: inside and outside of a circle.
//! let mut points = vec![0.0f32; 2 * 256];
//! Stream::new(1, Purpose::Check, 0, 0).normal(&mut points, 1.0);
//! let classes: Vec<u32> = points.chunks(2).map(|p| u32::from(p[0] * p[0] + p[1] * p[1] < 1.4)).collect();
//! let x = arr::from_vec(&[256, 2], points);
//!
//! let init = &mut Init::new(1);
//! let layer = Layer { number: 0, width: 16, experts: 4 };
//! let moe = Moe::routed(layer, 16, Form::Relu, &Settings::default(), init);
//! let mut net = Net { input: Linear::new(2, 16, init), moe, output: Linear::new(16, 2, init) };
//! let mut optimizer = Optimizer::adamw(&net);
//! let mut losses = Vec::new();
//! for step in 0..100 {
//!     let tape = Tape::new(Mode::Train);
//!     let logits = net.forward(tape.constant(x.clone()), Phase::Train { seed: Some(1), step })?;
//!     let loss = logits.cross_entropy(&classes);
//!     optimizer.step(&mut net, &tape.backward(loss)?, 0.01)?;
//!     losses.push(loss.item());
//! }
//! assert!(losses[99] < 0.2 * losses[0]);
//! # Ok::<(), dynamoe::Error>(())
//! ```
//!
//! # Reading order
//!
//! 1. [`engine::tape`]: how a computation is recorded and differentiated. Everything else builds on it.
//! 2. [`engine::ops`]: the operations, each with its gradient; [`engine::ops::fused`] for those that do the work of
//!    several.
//! 3. [`engine::gradcheck`]: how a gradient is checked, yours included.
//! 4. [`engine::kernels`]: the loops below, and why their results do not depend on the machine.
//! 5. [`nn`]: parameters, routers, experts, attention, models and [`nn::optim`].
//! 6. [`train`]: from gradients to a trained network in a run folder; [`train::verify`] replays a run.
//!
//! The `examples` folder takes the same path in eight small programs.

#[cfg(feature = "program")]
pub mod cli;
pub mod data;
pub mod engine;
pub mod lab;
pub mod nn;
pub mod train;

pub use engine::kernels::{elem::Elem, random};
pub use engine::{Error, Mode, Op, Result, Tape, Var, arr};

/// The README's example runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
