//! The loops below the operations: slices in, slices out. No kernel knows the tape or a model.
//!
//! Every kernel computes one fixed sequence of roundings per output, whatever the SIMD level and the number of threads.
//! The tests beside each kernel compare it to the bit with a plain loop.
//!
//! All matrices are row-major. The letters in the comments: E experts, T tokens, d width of a token, h width of a hidden
//! layer, k active experts per token, B batch, S sequence length, V vocabulary; `F` is the element type. A gradient is
//! `g_` and the name of its value, or `gx` for a short one.
//!
//! In reading order:
//!
//! | file | content |
//! |---|---|
//! | [`scalar`], [`math`], [`elem`] | f32 and f64, their transcendental functions, the element type `F: Elem` |
//! | [`pool`] | reusable buffers |
//! | [`simd`], [`fused`] | the SIMD level: [`simd::fast`] compiles a loop for it; an emulated fused multiply-add |
//! | [`par`] | the number of threads, and parallel loops over disjoint outputs |
//! | [`map`], [`rows`] | loops over elements and over rows: vectorized and parallel |
//! | [`reduce`], [`softmax`] | sums, dot products and maxima in a fixed order; softmax of a row |
//! | [`gemm`] | matrix products |
//! | [`random`] | addressed random numbers |
//! | [`select`], [`gate`], [`routes`] | the k largest gates; gates of a router (T, E); tokens grouped by expert |
//! | [`experts`] | the expert layer, forward and backward |
//! | [`rotary`], [`attention`] | rotary positions; causal attention (S, S) in blocks |
//! | [`head`] | cross-entropy over a vocabulary (T, V) in blocks |

pub mod attention;
pub mod elem;
pub mod experts;
pub mod fused;
pub mod gate;
pub mod gemm;
pub mod head;
pub mod map;
pub mod math;
pub mod par;
pub mod pool;
pub mod random;
pub mod reduce;
pub mod rotary;
pub mod routes;
pub mod rows;
pub mod scalar;
pub mod select;
pub mod simd;
pub mod softmax;
