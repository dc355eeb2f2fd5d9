//! The variance of the routers' gradients with a varying and with a fixed number of experts (Gülmez, theorem 2).
//!
//! The weights are frozen and there is no noise. M micro-batches give gradients `g_m` of the routers' parameters, with
//! variance `V = 1/(M-1) sum |g_m - mean|^2`. The same micro-batches are then evaluated with the number of experts of
//! each layer fixed to its rounded mean. The interval of the ratio is a paired bootstrap over micro-batches.
//! If the weights are a softmax over the chosen experts, a single expert has weight 1 whatever its gate: a layer fixed
//! to one expert has gradient zero, and variance zero.

use serde::{Deserialize, Serialize};

use crate::data::Examples;
use crate::engine::error::Result;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::nn::Model;
use crate::train::learned::gradients::gradients;

/// The number of micro-batches; fewer if there are too few examples.
const MICRO_BATCHES: usize = 64;
/// Images, or about that many tokens, per micro-batch.
const BATCH: usize = 32;
/// Bootstrap resamples.
const RESAMPLES: usize = 2000;

/// Both variances and their ratio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The number of micro-batches.
    #[serde(default = "full_count")]
    pub micro_batches: usize,
    /// Active experts in each layer with the fixed number.
    pub fixed_k: Vec<usize>,
    /// Mean active experts in each layer with the varying number, over the same micro-batches.
    pub mean_k: Vec<f64>,
    /// Variance with the varying number.
    pub dynamic: f64,
    /// Variance with the fixed number.
    pub fixed: f64,
    /// `dynamic / fixed`.
    pub ratio: f64,
    /// 95% interval of the ratio.
    pub interval: (f64, f64),
}

/// Old results lack the number; they all used the full one.
fn full_count() -> usize {
    MICRO_BATCHES
}

/// Compares the variances on micro-batches of `examples`. `None` if the router's number of experts cannot be fixed, if
/// the variance with the fixed number is zero, or if there are too few examples.
///
/// # Errors
/// Examples that do not fit the model.
pub fn compare(model: &Model<f32>, examples: &Examples, seed: u64) -> Result<Option<Comparison>> {
    let order = Stream::new(seed, Purpose::Shuffle, 1, 0).permutation(examples.len());
    let size = (BATCH / examples.rows_of_one()).min(examples.len() / MICRO_BATCHES).max(1);
    let batches: Vec<&[u32]> = order.chunks_exact(size).take(MICRO_BATCHES).collect();
    let mut model = model.clone();
    if batches.len() < 2 || !model.clone().fix(&vec![1; model.spec().experts.len()]) {
        return Ok(None);
    }
    let of_routers = |name: &str| name.contains(".router.");
    let (dynamic, mean_k) = gradients_of(&mut model, examples, &batches, of_routers)?;
    let fixed_k: Vec<usize> = mean_k.iter().map(|k| k.round().max(1.0) as usize).collect();
    model.fix(&fixed_k);
    let (fixed, _) = gradients_of(&mut model, examples, &batches, of_routers)?;
    let products = [products(&dynamic), products(&fixed)];
    let all: Vec<usize> = (0..batches.len()).collect();
    let [dynamic, fixed] = [0, 1].map(|i| variance(&products[i], &all));
    let mut random = Stream::new(seed, Purpose::Check, 2, 0).generator();
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let sample: Vec<usize> = all.iter().map(|_| random.bounded(all.len() as u32) as usize).collect();
            // A resample may consist of one micro-batch only and have variance zero.
            let ratio = variance(&products[0], &sample) / variance(&products[1], &sample);
            ratio.is_finite().then_some(ratio)
        })
        .collect();
    if fixed <= 0.0 || ratios.is_empty() {
        return Ok(None);
    }
    ratios.sort_by(f64::total_cmp);
    let at = |share: f64| ratios[(share * (ratios.len() - 1) as f64).round() as usize];
    Ok(Some(Comparison {
        micro_batches: batches.len(),
        fixed_k,
        mean_k,
        dynamic,
        fixed,
        ratio: dynamic / fixed,
        interval: (at(0.025), at(0.975)),
    }))
}

/// The gradient of the parameters selected by `of` for each micro-batch, and the mean active experts of each layer.
fn gradients_of(
    model: &mut Model<f32>,
    examples: &Examples,
    batches: &[&[u32]],
    of: impl Fn(&str) -> bool,
) -> Result<(Vec<Vec<f32>>, Vec<f64>)> {
    let mut all = vec![Vec::new(); batches.len()];
    let mean_k = gradients(model, examples, batches, |m, name, gradient| {
        if of(name) {
            all[m].extend_from_slice(gradient);
        }
    })?;
    Ok((all, mean_k))
}

/// The Gram matrix: all scalar products of two gradients.
fn products(gradients: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let product =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    gradients.iter().map(|a| gradients.iter().map(|b| product(a, b)).collect()).collect()
}

/// `1/(M-1) sum |g_m - mean|^2` over the gradients in `sample`, computed from the Gram matrix as
/// `1/(M-1) (sum |g|^2 - |sum g|^2 / M)`.
fn variance(products: &[Vec<f64>], sample: &[usize]) -> f64 {
    let count = sample.len() as f64;
    let squares: f64 = sample.iter().map(|&i| products[i][i]).sum();
    let of_sum: f64 = sample.iter().flat_map(|&i| sample.iter().map(move |&j| products[i][j])).sum();
    (squares - of_sum / count) / (count - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Dataset};
    use crate::train::Learner;
    use crate::train::config::{Resolved, Sources};

    #[test]
    fn the_variance_from_products_equals_the_definition() {
        let gradients = [vec![1.0f32, 2.0], vec![3.0, -1.0], vec![0.5, 0.0], vec![2.0, 2.0]];
        let mean = [1.625, 0.75];
        let square = |g: &Vec<f32>| -> f64 {
            g.iter().zip(mean).map(|(&g, m)| (f64::from(g) - m) * (f64::from(g) - m)).sum()
        };
        let expected = gradients.iter().map(square).sum::<f64>() / 3.0;
        approx::assert_relative_eq!(
            variance(&products(&gradients), &[0, 1, 2, 3]),
            expected,
            max_relative = 1e-12
        );
    }

    fn learner_of(settings: &[&str]) -> Option<Comparison> {
        let set =
            ["layers=2", "width=16", "experts_max=4"].iter().chain(settings).map(|s| s.to_string()).collect();
        let config = Resolved::resolve(&Sources { set, ..Sources::default() }).unwrap();
        let data = Dataset::from(data::load("digits", None).unwrap());
        let mut learner = Learner::new(&config, &data).unwrap();
        (0..20).for_each(|_| drop(learner.step(None).unwrap()));
        compare(&learner.model, learner.train(), 1).unwrap()
    }

    #[test]
    fn a_constant_number_has_ratio_one() {
        // In token scope every token has the same number of experts: fixing it changes nothing.
        let same = learner_of(&["percentile_scope=token", "tau=0.4"]).unwrap();
        assert_eq!((same.ratio, same.interval, &same.fixed_k[..]), (1.0, (1.0, 1.0), &[2, 1][..]));
        assert_eq!(learner_of(&["percentile_scope=token", "tau=0.7"]), None, "one expert has no gradient");
        let varying = learner_of(&["percentile_scope=batch", "tau=0.5"]).unwrap();
        assert!(varying.dynamic > 0.0 && varying.ratio != 1.0, "{varying:?}");
        assert!(varying.interval.0 < varying.ratio && varying.ratio < varying.interval.1, "{varying:?}");
        assert!(varying.mean_k[0] > 1.0 && varying.mean_k[0] < 3.0);
        assert!(learner_of(&["router=top-p"]).is_some());
        assert_eq!(learner_of(&["router=switch"]), None);
        assert_eq!(learner_of(&["model=mlp"]), None);
    }
}
