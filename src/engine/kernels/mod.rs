//! Loops only: slices in, slices out. Nothing here knows of a tape, a gradient or a model.
//!
//! Every kernel computes one fixed sequence of roundings per output, whatever the instruction set
//! and the number of threads; the tests beside each compare it bit for bit with a plain loop.

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
