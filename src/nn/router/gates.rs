//! Small steps that routers share on the way from scores to weights.

use crate::engine::arr::{self, Arr};
use crate::engine::kernels::{elem::Elem, reduce, rows};
use crate::engine::tape::Var;

/// `x` where `mask` is true, else 0.
pub fn keep<'t, F: Elem>(x: Var<'t, F>, mask: &[bool]) -> Var<'t, F> {
    x.mul(x.tape().constant(ones(&x.shape(), mask)))
}

/// 1 where `mask` is true, else 0.
pub fn ones<F: Elem>(shape: &[usize], mask: &[bool]) -> Arr<F> {
    let mut numbers = arr::zeros(shape);
    let chosen = arr::data_mut(&mut numbers).iter_mut().zip(mask).filter(|(_, chosen)| **chosen);
    chosen.for_each(|(number, _)| *number = F::one());
    numbers
}

/// The value `hard` with the gradient of `soft`, whose value is `now`. (Bengio et al., Estimating or Propagating
/// Gradients Through Stochastic Neurons, 2013.)
pub fn straight_through<'t, F: Elem>(soft: Var<'t, F>, now: &Arr<F>, hard: &Arr<F>) -> Var<'t, F> {
    let tape = soft.tape();
    soft.sub(tape.constant(now.clone())).add(tape.constant(hard.clone()))
}

/// `ln(sigmoid(x))`.
pub fn log_sigmoid<F: Elem>(x: Var<'_, F>) -> Var<'_, F> {
    x.neg().softplus().neg()
}

/// Scores (T, E), each divided by the sum of its row.
pub fn normalized<F: Elem>(scores: &Arr<F>) -> Arr<F> {
    let (mut out, scores) = (scores.clone(), arr::data(scores));
    let experts = out.shape()[1];
    rows::each(
        arr::data_mut(&mut out),
        experts,
        #[inline(always)]
        |r, row| {
            let sum = reduce::sum_lanes(&scores[r * experts..][..experts]);
            for v in row {
                *v = *v / sum;
            }
        },
    );
    out
}

/// The rank of each expert in its row of scores (T, E): 0 for the largest; of equal scores the lower index first.
pub fn ranks<F: Elem>(scores: &[F], experts: usize) -> Vec<usize> {
    let mut ranks = vec![0; scores.len()];
    for_each_order(scores, experts, |row, order| {
        order.iter().enumerate().for_each(|(rank, &expert)| ranks[row * experts + expert] = rank);
    });
    ranks
}

/// Calls `each` with every row's number and its experts in falling order of score; of equal scores the lower index
/// first.
pub fn for_each_order<F: Elem>(scores: &[F], experts: usize, mut each: impl FnMut(usize, &[usize])) {
    let mut order = Vec::new();
    for (r, row) in scores.chunks_exact(experts).enumerate() {
        order.clear();
        order.extend(0..experts);
        order.sort_by(|&a, &b| row[b].f64().total_cmp(&row[a].f64()).then(a.cmp(&b)));
        each(r, &order);
    }
}
