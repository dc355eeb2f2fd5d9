//! The error function, and the GELU that is exact through it.

use super::elementwise::elementwise;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::{elem::Elem, scalar::Scalar};
use crate::engine::tape::Var;

elementwise! {
    /// The error function `2 / sqrt(pi) * integral of e^(-t^2) from 0 to x` of every element.
    Erf erf() {
        y: |x| {
            let (erf, _) = erf_and_complement(x.larger(-x));
            if x < F::zero() { -erf } else { erf }
        },
        gx: |x, _, g| g * F::of(std::f64::consts::FRAC_2_SQRT_PI) * (-x * x).exp(),
        check: |x| x.erf(), random(&[17], 1),
    }

    /// The exact Gaussian error linear unit, `x P(x)`, where `P(x) = (1 + erf(x / sqrt(2))) / 2` is the standard
    /// normal distribution function. [`Var::gelu`] is its approximation by tanh.
    GeluExact gelu_exact() {
        y: |x| x * probability(x),
        // P(x) + x P'(x); the density's constant is 1 / sqrt(2 pi).
        gx: |x, _, g| g * (probability(x) + x * F::of(0.398_942_280_401_432_7) * (F::of(-0.5) * x * x).exp()),
        check: |x| x.gelu_exact(), random(&[17], 2),
    }
}

/// The probability that a standard normal number is at most `x`, without cancellation for negative `x`.
#[inline(always)]
fn probability<F: Elem>(x: F) -> F {
    let half = F::of(0.5);
    let (erf, complement) = erf_and_complement(x.larger(-x) * F::of(std::f64::consts::FRAC_1_SQRT_2));
    if x < F::zero() { half * complement } else { half + half * erf }
}

/// `erf(x)` and `1 - erf(x)` for x of 0 or more.
#[inline(always)]
fn erf_and_complement<F: Elem>(x: F) -> (F, F) {
    if size_of::<F>() == size_of::<f32>() {
        let (erf, complement) = erf_and_complement_f32(x.f64() as f32);
        (F::of_f32(erf), F::of_f32(complement))
    } else {
        (F::of(libm::erf(x.f64())), F::of(libm::erfc(x.f64())))
    }
}

/// Two polynomials by N. Juffa, to within 1 ulp of erf: `x + x p(x^2)` near 0, and `1 - e^q(x)` beyond.
#[inline(always)]
fn erf_and_complement_f32(x: f32) -> (f32, f32) {
    let square = x * x;
    let p = (-5.967_617e-4f32)
        .mul_add(square, 4.991_194e-3)
        .mul_add(square, -2.676_813_5e-2)
        .mul_add(square, 0.112_819_925)
        .mul_add(square, -0.376_125_34)
        .mul_add(square, 0.128_379_17);
    let near = p.mul_add(x, x);
    let high = (-1.728_534_7e-5f32).mul_add(x, 3.831_971_3e-4);
    let low = (-3.883_964_4e-3f32).mul_add(x, 2.425_462_2e-2);
    let q = high
        .mul_add(square, low)
        .mul_add(x, -0.106_777_88)
        .mul_add(x, -0.634_846_7)
        .mul_add(x, -0.128_717_51)
        .mul_add(x, -x);
    let tail = Scalar::exp(q);
    // 475 / 512: at the border both are within 1 ulp.
    if x > 0.927_734_4 { (1.0 - tail, tail) } else { (near, 1.0 - near) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::arr;
    use crate::engine::tape::{Mode, Tape};

    fn values(x: &[f32], f: impl for<'t> Fn(Var<'t, f32>) -> Var<'t, f32>) -> Vec<f32> {
        let tape = Tape::new(Mode::Infer);
        arr::data(&f(tape.constant(arr::from_vec(&[x.len()], x.to_vec()))).value()).to_vec()
    }

    #[test]
    fn erf_is_within_two_ulp_of_the_exact_one() {
        let x: Vec<f32> = (-50_000..=50_000).map(|i| i as f32 * 1e-4).collect();
        for (&x, y) in x.iter().zip(values(&x, |x| x.erf())) {
            let exact = libm::erf(x.into());
            let ulp = (exact as f32).abs().next_up() - (exact as f32).abs();
            assert!((f64::from(y) - exact).abs() <= 2.0 * f64::from(ulp), "erf({x}) is {exact}, not {y}");
        }
    }

    #[test]
    fn exact_gelu_does_not_cancel_in_the_tail() {
        let x: Vec<f32> = (-9_000..=9_000).map(|i| i as f32 * 1e-3).collect();
        for (&x, y) in x.iter().zip(values(&x, |x| x.gelu_exact())) {
            let wide = f64::from(x);
            let exact = wide * 0.5 * libm::erfc(-wide * std::f64::consts::FRAC_1_SQRT_2);
            assert!(
                (f64::from(y) - exact).abs() <= 1e-4 * exact.abs() + 1e-9,
                "gelu({x}) is {exact}, not {y}"
            );
        }
    }

    #[test]
    fn values_at_special_points() {
        let special = [0.0, f32::INFINITY, f32::NEG_INFINITY, 1e20];
        assert_eq!(values(&special, |x| x.erf()), [0.0, 1.0, -1.0, 1.0]);
        assert_eq!(values(&[0.0, -1e20, 1e20], |x| x.gelu_exact()), [0.0, 0.0, 1e20]);
        assert!(values(&[f32::NAN], |x| x.erf())[0].is_nan());
        assert!(values(&[f32::NAN], |x| x.gelu_exact())[0].is_nan());
    }
}
