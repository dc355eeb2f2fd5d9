//! How far an f32 is from the truth, in units in its last place (ulp), and the search for the farthest.

use crate::engine::kernels::par;

/// The distance from the f32 nearest to `truth` to the next larger one; below the normal range all are as far
/// apart as there.
pub fn ulp(truth: f64) -> f64 {
    let near = (truth as f32).abs().clamp(f32::MIN_POSITIVE, f32::MAX);
    let power_of_two = f32::from_bits(near.to_bits() & f32::INFINITY.to_bits());
    f64::from(power_of_two) * f64::from(f32::EPSILON)
}

/// How many [`ulp`]s lie between `got` and `truth`: up to 0.5 if `got` is correctly rounded. Infinity counts as
/// 2^128, the first number that is too large; NaN is infinitely far from everything but NaN.
pub fn ulps(got: f32, truth: f64) -> f64 {
    const TOO_LARGE: f64 = 2.0 * (1u128 << 127) as f64;
    if got.is_nan() || truth.is_nan() {
        return if got.is_nan() && truth.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let number = |x: f64| x.clamp(-TOO_LARGE, TOO_LARGE);
    (number(got.into()) - number(truth)).abs() / ulp(truth)
}

/// Where a function is farthest from the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// Its error there.
    pub ulps: f64,
    /// The argument.
    pub x: f32,
    /// What the function gives.
    pub got: f32,
    /// What it should.
    pub truth: f64,
}

impl Worst {
    /// The worse of two; the first if they are equal.
    fn or(self, other: Worst) -> Worst {
        if other.ulps > self.ulps { other } else { self }
    }
}

/// The place of an f32 among all in rising order, with -0 just before 0.
fn place(x: f32) -> i64 {
    i64::from(flip(x.to_bits() as i32))
}

/// The f32 at a place.
fn at(place: i64) -> f32 {
    f32::from_bits(flip(place as i32) as u32)
}

/// Turns the order of negative numbers round: by their bits the larger in size come last.
fn flip(bits: i32) -> i32 {
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

/// Applies `f` to every `stride`-th f32 from `low` to `high` and compares with `truth`, on all threads: how
/// many numbers that were, and the first of the worst.
///
/// # Panics
/// If `low > high` or the stride is 0.
pub fn sweep(
    low: f32,
    high: f32,
    stride: u32,
    f: impl Fn(&[f32], &mut [f32]) + Sync,
    truth: impl Fn(f64) -> f64 + Sync,
) -> (u64, Worst) {
    /// Numbers of a task.
    const PART: u64 = 1 << 16;
    assert!(low <= high, "a sweep from {low} to {high}");
    let count = (place(high) - place(low)) as u64 / u64::from(stride) + 1;
    let mut parts = vec![None; count.div_ceil(PART) as usize];
    par::chunks(&mut parts, 1, |i, worst| {
        let first = i as u64 * PART;
        let numbers = first..(first + PART).min(count);
        let x: Vec<f32> = numbers.map(|n| at(place(low) + (n * u64::from(stride)) as i64)).collect();
        let mut y = vec![0.0; x.len()];
        f(&x, &mut y);
        let errors = x.iter().zip(&y).map(|(&x, &got)| {
            let truth = truth(x.into());
            Worst { ulps: ulps(got, truth), x, got, truth }
        });
        worst[0] = errors.reduce(Worst::or);
    });
    (count, parts.into_iter().flatten().reduce(Worst::or).expect("at least the lowest number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_in_ulp() {
        let ulp_of_one = f64::from(f32::EPSILON);
        assert_eq!((ulp(1.0), ulp(1.99), ulp(-0.99)), (ulp_of_one, ulp_of_one, ulp_of_one / 2.0));
        let smallest = f64::from(f32::from_bits(1));
        assert_eq!((ulp(0.0), ulp(1e-40), ulp(f32::MIN_POSITIVE.into())), (smallest, smallest, smallest));
        assert_eq!(ulps(1.0, 1.0 + 0.25 * ulp_of_one), 0.25);
        assert_eq!(ulps(-1.0, -1.0 - 3.0 * ulp_of_one), 3.0);
        assert_eq!((ulps(f32::INFINITY, f64::MAX), ulps(f32::INFINITY, f64::from(f32::MAX))), (0.0, 1.0));
        assert_eq!(
            (ulps(f32::NAN, f64::NAN), ulps(f32::NAN, 0.0), ulps(0.0, f64::NAN)),
            (0.0, f64::INFINITY, f64::INFINITY)
        );
    }

    #[test]
    fn a_sweep_meets_every_number_once_in_rising_order() {
        let places = [f32::MIN, -1.0, -0.0, 0.0, f32::from_bits(1), 1.0, f32::MAX].map(place);
        assert!(places.is_sorted() && places[2] + 1 == places[3]);
        assert!(places.iter().all(|&p| place(at(p)) == p));
        let copy = |x: &[f32], y: &mut [f32]| y.copy_from_slice(x);
        let (count, _) = sweep(-f32::from_bits(70_000), f32::from_bits(70_000), 1, copy, |x| x);
        assert_eq!(count, 2 * 70_001);
        assert_eq!(sweep(1.0, 2.0, 1000, copy, |x| x).0, (1 << 23) / 1000 + 1);
    }

    #[test]
    fn the_first_of_the_worst_is_found_at_every_thread_count() {
        // Two ulp off at two numbers far apart, one ulp off at one before them.
        let wrong = |x: &[f32], y: &mut [f32]| {
            for (y, x) in y.iter_mut().zip(x) {
                let bits = x.to_bits();
                let off = if *x == 1.25 {
                    1
                } else if *x == 1.5 || *x == 1.75 {
                    2
                } else {
                    0
                };
                *y = f32::from_bits(bits + off);
            }
        };
        for threads in [1, 3] {
            let (_, worst) = par::with_threads(threads, || sweep(1.0, 2.0, 32, wrong, |x| x));
            assert_eq!((worst.ulps, worst.x, worst.truth), (2.0, 1.5, 1.5));
        }
    }
}
