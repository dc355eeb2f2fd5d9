//! Turns stored bytes into standardized numbers: mean 0 and deviation 1 over the training pixels.

use super::stored::Images;
use crate::engine::{Error, Result};

/// One mean and one standard deviation for all pixels of a set, after scaling to 0..1.
#[derive(Clone, Debug)]
pub struct Standardize {
    mean: f32,
    std: f32,
    scale: f32,
    /// The standardized value of every byte.
    table: Box<[f32; 256]>,
}

impl Standardize {
    /// Measures the training images. The sums are exact integers, and the few operations after them are
    /// correctly rounded everywhere, so every machine finds the same bits. Images that are all alike (or
    /// none at all) have no deviation; they count as deviation 1, so that every pixel becomes 0.
    pub fn fit(train: &Images) -> Standardize {
        let mut histogram = [0u64; 256];
        for &pixel in &train.pixels {
            histogram[usize::from(pixel)] += 1;
        }
        let moment = |power: u32| -> u128 {
            (0u128..).zip(histogram).map(|(value, count)| value.pow(power) * u128::from(count)).sum()
        };
        let (count, sum, squares) = (moment(0), moment(1), moment(2));
        // The variance times count^2: a whole number, never negative.
        let spread = count * squares - sum * sum;
        let full = f64::from(train.scale) * count.max(1) as f64;
        let std = if spread == 0 { 1.0 } else { (spread as f64).sqrt() / full };
        Standardize::with_table((sum as f64 / full) as f32, std as f32, train.scale)
    }

    /// Takes up known values, such as a checkpoint's: `mean` and `std` of the pixels scaled to 0..1, and
    /// `scale`, the value of a full pixel.
    ///
    /// # Errors
    /// [`Error::Config`] when `mean` is not finite, or `std` or `scale` is not finite and above 0.
    pub fn new(mean: f32, std: f32, scale: f32) -> Result<Standardize> {
        for (key, value, fits) in
            [("mean", mean, true), ("std", std, std > 0.0), ("scale", scale, scale > 0.0)]
        {
            if !fits || !value.is_finite() {
                let bound = if key == "mean" { "a finite number" } else { "a finite number above 0" };
                return Err(Error::config(key, format!("is {value}, but must be {bound}")));
            }
        }
        Ok(Standardize::with_table(mean, std, scale))
    }

    fn with_table(mean: f32, std: f32, scale: f32) -> Standardize {
        let table = Box::new(std::array::from_fn(|value| (value as f32 / scale - mean) / std));
        Standardize { mean, std, scale, table }
    }

    /// The mean that is taken away, in units of a full pixel.
    pub fn mean(&self) -> f32 {
        self.mean
    }

    /// The standard deviation that is divided by, in units of a full pixel.
    pub fn std(&self) -> f32 {
        self.std
    }

    /// The value of a full pixel.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Writes `(pixel / scale - mean) / std` for every pixel.
    ///
    /// # Panics
    /// When `out` is not as long as `pixels`.
    pub fn apply(&self, pixels: &[u8], out: &mut [f32]) {
        assert_eq!(pixels.len(), out.len(), "standardize: one output per pixel");
        for (value, &pixel) in out.iter_mut().zip(pixels) {
            *value = self.table[usize::from(pixel)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(pixels: Vec<u8>, scale: f32) -> Images {
        Images { labels: vec![0; pixels.len()], pixels, height: 1, width: 1, channels: 1, scale }
    }

    #[test]
    fn known_values_come_out() {
        let standardize = Standardize::fit(&images(vec![0, 0, 16, 16], 16.0));
        assert_eq!((standardize.mean(), standardize.std(), standardize.scale()), (0.5, 0.5, 16.0));
        let mut out = [0.0; 3];
        standardize.apply(&[0, 8, 16], &mut out);
        assert_eq!(out, [-1.0, 0.0, 1.0]);
    }

    #[test]
    fn the_result_has_mean_zero_and_deviation_one() {
        let train = images((0..10_000u32).map(|i| (i * i % 251) as u8).collect(), 255.0);
        let mut out = vec![0.0; train.pixels.len()];
        Standardize::fit(&train).apply(&train.pixels, &mut out);
        let mean = out.iter().map(|&x| f64::from(x)).sum::<f64>() / out.len() as f64;
        let square = out.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / out.len() as f64;
        assert!(mean.abs() < 1e-6 && (square - 1.0).abs() < 1e-6, "{mean} {square}");
    }

    #[test]
    fn the_order_of_pixels_does_not_matter() {
        let pixels: Vec<u8> = (0..5000u32).map(|i| (i * 7919 % 256) as u8).collect();
        let reversed = pixels.iter().rev().copied().collect();
        let (one, two) =
            (Standardize::fit(&images(pixels, 255.0)), Standardize::fit(&images(reversed, 255.0)));
        assert_eq!((one.mean().to_bits(), one.std().to_bits()), (two.mean().to_bits(), two.std().to_bits()));
    }

    #[test]
    fn equal_pixels_become_zero() {
        let standardize = Standardize::fit(&images(vec![51; 9], 255.0));
        let mut out = [9.0];
        standardize.apply(&[51], &mut out);
        assert_eq!((standardize.std(), out), (1.0, [0.0]));
        assert_eq!(Standardize::fit(&images(vec![], 255.0)).std(), 1.0);
    }

    #[test]
    fn impossible_values_are_refused() {
        for (mean, std, scale, key) in
            [(f32::NAN, 1.0, 255.0, "mean"), (0.0, 0.0, 255.0, "std"), (0.0, 1.0, f32::INFINITY, "scale")]
        {
            let line = Standardize::new(mean, std, scale).unwrap_err().to_string();
            assert!(line.contains(&format!("setting {key}")), "{line}");
        }
        let fitted = Standardize::fit(&images(vec![1, 2, 3, 250], 255.0));
        let again = Standardize::new(fitted.mean(), fitted.std(), fitted.scale()).unwrap();
        assert_eq!(fitted.table, again.table);
    }
}
