//! Means with intervals, paired tests over seeds, and rank correlation.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// A mean with the half width of its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Half the width of the 95% interval (Student's t); `None` for a single value.
    pub half: Option<f64>,
    /// How many values.
    pub count: usize,
}

impl Mean {
    /// The mean of `values`; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Mean> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let half =
            (count > 1).then(|| t_quantile(count - 1) * deviation(values, mean) / (count as f64).sqrt());
        (count > 0).then_some(Mean { mean, half, count })
    }
}

/// `98.37 ± 0.12`, or the mean alone.
impl std::fmt::Display for Mean {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(2);
        match self.half {
            Some(half) => write!(f, "{:.digits$} ± {half:.digits$}", self.mean),
            None => write!(f, "{:.digits$}", self.mean),
        }
    }
}

/// The sample standard deviation.
fn deviation(values: &[f64], mean: f64) -> f64 {
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

/// The 97.5% quantile of Student's t.
fn t_quantile(freedom: usize) -> f64 {
    student(freedom).inverse_cdf(0.975)
}

fn student(freedom: usize) -> StudentsT {
    StudentsT::new(0.0, 1.0, freedom as f64).expect("at least one degree of freedom")
}

/// The paired t-test of two series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Mean of the differences, with its interval.
    pub difference: Mean,
    /// Two-sided p-value; `None` for fewer than two pairs.
    pub p: Option<f64>,
}

/// The verdict on the claim that the first series is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Significantly larger (5% level).
    Holds,
    /// Significantly smaller (5% level).
    Fails,
    /// No significant difference.
    Undecided,
}

impl Paired {
    /// Compares pairs of values, each from one seed; `None` without pairs.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Paired> {
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
        let difference = Mean::of(&differences)?;
        let p = (pairs.len() > 1).then(|| {
            let error = deviation(&differences, difference.mean) / (pairs.len() as f64).sqrt();
            match (error > 0.0, difference.mean == 0.0) {
                (true, _) => 2.0 * student(pairs.len() - 1).sf((difference.mean / error).abs()),
                // All differences are equal.
                (false, true) => 1.0,
                (false, false) => 0.0,
            }
        });
        Some(Paired { difference, p })
    }

    /// Whether the first of each pair is larger.
    pub fn verdict(&self) -> Verdict {
        match self.p {
            Some(p) if p < 0.05 && self.difference.mean > 0.0 => Verdict::Holds,
            Some(p) if p < 0.05 && self.difference.mean < 0.0 => Verdict::Fails,
            _ => Verdict::Undecided,
        }
    }
}

/// A correlation with its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correlation {
    /// From -1 to 1.
    pub r: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Spearman's rank correlation with mean ranks for ties, and its interval by Fisher's transformation with Bonett and
/// Wright's variance. `None` if a series is constant, or for fewer than ten pairs.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<Correlation> {
    let (a, b) = (ranks(x), ranks(y));
    let middle = (x.len() as f64 - 1.0) / 2.0;
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(&b).map(|(a, b)| f(a - middle, b - middle)).sum::<f64>();
    let (xx, yy, xy) = (sum(&|a, _| a * a), sum(&|_, b| b * b), sum(&|a, b| a * b));
    if xx <= 0.0 || yy <= 0.0 || x.len() < 10 {
        return None;
    }
    let r = (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0);
    let z = libm::atanh(r.clamp(-0.999_999_9, 0.999_999_9));
    let error = ((1.0 + r * r / 2.0) / (x.len() as f64 - 3.0)).sqrt();
    let reach = Normal::standard().inverse_cdf(0.975) * error;
    Some(Correlation { r, low: libm::tanh(z - reach), high: libm::tanh(z + reach) })
}

/// The rank of each value from 0; ties get their mean rank.
fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let (mut ranks, mut first) = (vec![0.0; x.len()], 0);
    for tied in order.chunk_by(|&a, &b| x[a] == x[b]) {
        let mean = first as f64 + (tied.len() - 1) as f64 / 2.0;
        tied.iter().for_each(|&i| ranks[i] = mean);
        first += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn a_mean_with_students_interval() {
        // t of 2 degrees of freedom at 97.5% is 4.303; the deviation of 1, 2, 3 is 1.
        let mean = Mean::of(&[1.0, 2.0, 3.0]).unwrap();
        assert_relative_eq!(mean.half.unwrap(), 4.302_652_7 / 3f64.sqrt(), max_relative = 1e-6);
        assert_eq!((mean.mean, mean.to_string()), (2.0, "2.00 ± 2.48".into()));
        assert_eq!(format!("{:.1}", Mean::of(&[7.0]).unwrap()), "7.0");
        assert_eq!(Mean::of(&[]), None);
    }

    #[test]
    fn a_paired_test_by_hand() {
        let paired = Paired::of(&[(2.0, 1.0), (4.0, 2.0), (6.0, 3.0)]).unwrap();
        // t = 2 / (1 / sqrt 3) = 3.464 with 2 degrees of freedom: p = 0.0742.
        assert_relative_eq!(paired.p.unwrap(), 0.074_179_9, max_relative = 1e-4);
        assert_eq!(paired.verdict(), Verdict::Undecided);
        let sure = Paired::of(&[(2.0, 1.0), (3.1, 2.0), (4.0, 3.1)]).unwrap();
        assert_eq!(sure.verdict(), Verdict::Holds);
        let swapped = Paired::of(&[(1.0, 2.0), (2.0, 3.1), (3.1, 4.0)]).unwrap();
        assert_eq!(swapped.verdict(), Verdict::Fails);
        assert_eq!(Paired::of(&[(1.0, 0.0)]).unwrap().p, None);
        assert_eq!(Paired::of(&[(1.0, 1.0), (2.0, 2.0)]).unwrap().verdict(), Verdict::Undecided);
    }

    #[test]
    fn rank_correlation_with_ties() {
        let x: Vec<f64> = (0..20).map(f64::from).collect();
        let cubes: Vec<f64> = x.iter().map(|v| v * v * v).collect();
        assert_relative_eq!(spearman(&x, &cubes).unwrap().r, 1.0, max_relative = 1e-12);
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        assert_eq!(spearman(&x, &[4.0; 20]), None);
        let half: Vec<f64> = x.iter().map(|&v| f64::from(v >= 10.0)).collect();
        let found = spearman(&x, &half).unwrap();
        assert!(
            found.low < found.r && found.r < found.high && found.r > 0.8 && found.high < 1.0,
            "{found:?}"
        );
    }
}
