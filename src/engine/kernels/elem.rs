//! The element type of arrays, written `F` everywhere.

use super::{gemm::Gemm, scalar::Scalar, select::Select};

/// An element of arrays, f32 or f64: a [`Scalar`] with its matrix product and its choice of the largest.
pub trait Elem: Scalar + Gemm + Select {}

impl<F: Scalar + Gemm + Select> Elem for F {}
