//! dynamoe: a CPU tensor engine that trains mixture-of-experts networks, reproducible to the bit.
//!
//! The number of active experts may vary from token to token, and the number of experts from layer to
//! layer. The same configuration, data and seed give the same bits, whatever the number of threads and
//! the processor.
//!
//! ```
//! use dynamoe::engine::kernels::random::{Purpose, Stream};
//! use dynamoe::nn::{Init, Model};
//! use dynamoe::nn::optim::{Optimizer, Settings};
//! use dynamoe::{arr, config::Config, train::step};
//!
//! // Points in the plane, in two classes: inside and outside of a circle.
//! let mut points = vec![0.0f32; 2 * 256];
//! Stream::new(1, Purpose::Check, 0, 0).normal(&mut points, 1.0);
//! let classes: Vec<u32> = points.chunks(2).map(|p| u32::from(p[0] * p[0] + p[1] * p[1] < 1.4)).collect();
//!
//! // Two layers, of four experts and of one.
//! let config = Config { layers: 2, width: 16, experts_max: 4, ..Config::default() };
//! let mut model = Model::<f32>::new(&config.spec(2, 2), &mut Init::new(1));
//! let mut optimizer = Optimizer::new(Settings::ADAMW, &mut model);
//! let mut losses = Vec::new();
//! for _ in 0..100 {
//!     let x = arr::from_vec(&[256, 2], points.clone());
//!     losses.push(step(&mut model, &mut optimizer, x, classes.clone(), 1, 0.01, 0.0)?.loss);
//! }
//! assert!(losses[99] < 0.2 * losses[0]);
//! # Ok::<(), dynamoe::Error>(())
//! ```
//!
//! # Reading order
//!
//! 1. [`tape`]: how a computation is recorded and walked back. Everything else builds on it.
//! 2. [`ops`]: the operations, each with its gradient; [`ops::fused`] for those that do several at once.
//! 3. [`gradcheck`]: how a gradient is checked, yours included.
//! 4. [`kernels`]: the loops below, and why their results do not depend on the machine.
//! 5. [`nn`]: parameters, routers, experts, attention, the models; [`generate`] for text from them.
//! 6. [`optim`] and [`train`]: from gradients to a trained network in a run folder.
//! 7. [`verify`]: how a run is replayed and a wrong bit found; `docs/reproducibility.md` says what is promised.
//!
//! The `examples` folder walks the same road in eight small programs.

#[cfg(feature = "program")]
pub mod cli;
pub mod data;
pub mod engine;
pub mod lab;
pub mod nn;
pub mod train;

pub use engine::{Error, Mode, Op, Result, Tape, Var, arr};

/// The README's example runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
