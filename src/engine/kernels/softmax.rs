//! Softmax, log-softmax and log-sum-exp of one row x (n), and their gradients; for use inside `fast`.
//!
//! Each first subtracts the row's largest element m, so that no exponential overflows.

use super::reduce::{self, LANES, padded};
use super::scalar::Scalar;

/// `y_i = e^(x_i - m) / sum over j of e^(x_j - m)`.
#[inline(always)]
pub fn softmax_row<F: Scalar>(x: &[F], y: &mut [F]) {
    if x.len() < LANES {
        let mut lanes = padded(x, F::of(f64::NEG_INFINITY));
        softmax_in_place(&mut lanes);
        return y.copy_from_slice(&lanes[..x.len()]);
    }
    y.copy_from_slice(x);
    softmax_in_place(y);
}

#[inline(always)]
fn softmax_in_place<F: Scalar>(y: &mut [F]) {
    let max = reduce::max_lanes(y);
    for y in y.iter_mut() {
        *y = (*y - max).exp();
    }
    divide_by_sum(y);
}

/// Softmax over the elements chosen by `mask`; the other elements get 0, also if none is chosen.
#[inline(always)]
pub fn masked_softmax_row<F: Scalar>(x: &[F], mask: &[bool], y: &mut [F]) {
    y.copy_from_slice(x);
    masked_softmax_in_place(mask, y);
}

/// [`masked_softmax_row`] of `y` into `y`.
#[inline(always)]
pub fn masked_softmax_in_place<F: Scalar>(mask: &[bool], y: &mut [F]) {
    if y.len() < LANES {
        let (count, mut lanes) = (y.len(), padded(y, F::zero()));
        masked(&padded(mask, false), &mut lanes);
        return y.copy_from_slice(&lanes[..count]);
    }
    masked(mask, y);
}

#[inline(always)]
fn masked<F: Scalar>(mask: &[bool], y: &mut [F]) {
    let nothing = F::of(f64::NEG_INFINITY);
    for (y, &chosen) in y.iter_mut().zip(mask) {
        *y = if chosen { *y } else { nothing };
    }
    let max = reduce::max_lanes(y);
    // The maximum ignores NaN.
    if max == nothing && !mask.contains(&true) {
        return y.fill(F::zero());
    }
    for (y, &chosen) in y.iter_mut().zip(mask) {
        *y = if chosen { (*y - max).exp() } else { F::zero() };
    }
    divide_by_sum(y);
}

#[inline(always)]
fn divide_by_sum<F: Scalar>(y: &mut [F]) {
    let sum = reduce::sum_lanes(y);
    for y in y {
        *y = *y / sum;
    }
}

/// The gradient `gx = y (g - y . g)` of a softmax, masked or not, from its output y and the gradient g of y.
#[inline(always)]
pub fn softmax_row_backward<F: Scalar>(y: &[F], g: &[F], gx: &mut [F]) {
    let common = reduce::dot_lanes(y, g);
    for ((gx, &y), &g) in gx.iter_mut().zip(y).zip(g) {
        *gx = y * (g - common);
    }
}

/// `m + ln(sum over j of e^(x_j - m))`.
#[inline(always)]
pub fn log_sum_exp_row<F: Scalar>(x: &[F]) -> F {
    if x.len() < LANES { log_sum_exp(&padded(x, F::of(f64::NEG_INFINITY))) } else { log_sum_exp(x) }
}

#[inline(always)]
fn log_sum_exp<F: Scalar>(x: &[F]) -> F {
    let max = reduce::max_lanes(x);
    max + sum_exp(x, max).ln()
}

/// `sum over j of e^(x_j - max)`.
#[inline(always)]
fn sum_exp<F: Scalar>(x: &[F], max: F) -> F {
    reduce::lanes(
        x,
        F::zero(),
        #[inline(always)]
        |a, v| a + (v - max).exp(),
        #[inline(always)]
        |a, b| a + b,
    )
}

/// `y_i = (x_i - m) - ln(sum over j of e^(x_j - m))`.
#[inline(always)]
pub fn log_softmax_row<F: Scalar>(x: &[F], y: &mut [F]) {
    let max = reduce::max_lanes(x);
    let log_sum = sum_exp(x, max).ln();
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (x - max) - log_sum;
    }
}

/// The gradient `gx = g - e^y sum(g)` of a log-softmax, from its output y and the gradient g of y.
#[inline(always)]
pub fn log_softmax_row_backward<F: Scalar>(y: &[F], g: &[F], gx: &mut [F]) {
    let sum = reduce::sum_lanes(g);
    for ((gx, &y), &g) in gx.iter_mut().zip(y).zip(g) {
        *gx = g - y.exp() * sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::simd;

    #[test]
    fn large_numbers_do_not_overflow() {
        let mut y = [0.0f32; 3];
        softmax_row(&[1000.0, 1000.0, -1000.0], &mut y);
        assert_eq!(y, [0.5, 0.5, 0.0]);
        log_softmax_row(&[1000.0, 1000.0, -1000.0], &mut y);
        assert_eq!(y[2], -2000.0 - std::f32::consts::LN_2);
    }

    #[test]
    fn masked_elements_get_zero_however_large() {
        let mut y = [f32::NAN; 3];
        masked_softmax_row(&[f32::INFINITY, 2.0, 2.0], &[false, true, true], &mut y);
        assert_eq!(y, [0.0, 0.5, 0.5]);
        masked_softmax_row(&[f32::NAN, 2.0, 2.0], &[false; 3], &mut y);
        assert_eq!(y, [0.0; 3]);
        masked_softmax_row(&[1.0, f32::NAN, 1.0], &[false, true, false], &mut y);
        assert!(y[1].is_nan(), "a chosen NaN is not hidden");
    }

    #[test]
    fn a_full_mask_is_no_mask() {
        let x: Vec<f32> = (0..37).map(|i| (i * i % 11) as f32 * 0.3).collect();
        let (mut plain, mut masked) = ([0.0; 37], [0.0; 37]);
        softmax_row(&x, &mut plain);
        masked_softmax_row(&x, &[true; 37], &mut masked);
        assert_eq!(plain, masked);
    }

    #[test]
    fn a_row_is_the_plain_definition_to_the_bit() {
        for len in [1, 5, 8, 16, 37, 300] {
            let x: Vec<f32> = (0..len).map(|i| ((i * 7919 % 101) as f32 - 50.0) * 0.07).collect();
            let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f32> = x.iter().map(|&v| crate::engine::kernels::math::exp(v - max)).collect();
            let sum = reduce::sum(&powers);
            simd::on_every_level(|level| {
                let mut y = vec![f32::NAN; len];
                simd::fast::<f32, _>(
                    #[inline(always)]
                    || softmax_row(&x, &mut y),
                );
                let same = y.iter().zip(&powers).all(|(y, p)| y.to_bits() == (p / sum).to_bits());
                assert!(same, "{level}, length {len}");
                simd::fast::<f32, _>(
                    #[inline(always)]
                    || log_softmax_row(&x, &mut y),
                );
                let log_sum = crate::engine::kernels::math::ln(sum);
                let same = y.iter().zip(&x).all(|(y, x)| y.to_bits() == ((x - max) - log_sum).to_bits());
                assert!(same, "logarithm, {level}, length {len}");
            });
        }
    }
}
