//! The covariance of tokens and its eigenvalues.
//!
//! The eigenvalue solver is written here, not taken from a library: learned schedules depend on its results, which must
//! be the same bits on every machine and in every later version.

use crate::engine::arr::{self, Arr};

/// The covariance of the columns of `h` (T, d), times T: d rows of d numbers.
pub fn covariance(h: &Arr<f32>) -> Vec<Vec<f64>> {
    let (count, width) = (h.shape()[0] as f64, h.shape()[1]);
    let rows = || arr::data(h).chunks_exact(width);
    let mean: Vec<f64> =
        (0..width).map(|j| rows().map(|row| f64::from(row[j])).sum::<f64>() / count).collect();
    let mut covariance = vec![vec![0.0; width]; width];
    for row in rows() {
        let centered: Vec<f64> = row.iter().zip(&mean).map(|(&v, m)| f64::from(v) - m).collect();
        for (line, v) in covariance.iter_mut().zip(&centered) {
            line.iter_mut().zip(&centered).for_each(|(c, w)| *c += v * w);
        }
    }
    covariance
}

/// The eigenvalues of a symmetric matrix, in no particular order, by cyclic Jacobi rotations.
pub fn eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    /// The largest number of sweeps.
    const SWEEPS: usize = 30;
    let n = a.len();
    for _ in 0..SWEEPS {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i][j] * a[i][j]).sum();
        let diagonal: f64 = (0..n).map(|i| a[i][i] * a[i][i]).sum();
        if off <= 1e-22 * diagonal {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q].abs() <= 1e-300 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for row in &mut a {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                let (upper, lower) = a.split_at_mut(q);
                for (x, y) in upper[p].iter_mut().zip(&mut lower[0]) {
                    (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                }
            }
        }
    }
    (0..n).map(|i| a[i][i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_of_known_matrices() {
        let mut found = eigenvalues(vec![vec![2.0, 1.0, 0.0], vec![1.0, 2.0, 0.0], vec![0.0, 0.0, 5.0]]);
        found.sort_by(f64::total_cmp);
        for (found, expected) in found.iter().zip([1.0, 3.0, 5.0]) {
            approx::assert_relative_eq!(*found, expected, max_relative = 1e-12);
        }
        let hilbert: Vec<Vec<f64>> =
            (0..6).map(|i| (0..6).map(|j| 1.0 / (i + j + 1) as f64).collect()).collect();
        let trace: f64 = (0..6).map(|i| hilbert[i][i]).sum();
        let found = eigenvalues(hilbert);
        approx::assert_relative_eq!(found.iter().sum::<f64>(), trace, max_relative = 1e-12);
        // The largest eigenvalue of the Hilbert matrix of order 6.
        approx::assert_relative_eq!(
            found.iter().copied().fold(0.0, f64::max),
            1.618_899_858_9,
            max_relative = 1e-9
        );
    }
}
