//! Operations that do the work of several small ones in one pass over the data. Each has a `reference` in small
//! operations: its definition, which its tests compare it with.

use crate::engine::error::Result;
use crate::engine::gradcheck::Check;
use crate::engine::tape::shape_error;

pub mod attention;
pub mod experts;
pub mod gate;
pub mod gated_experts;
pub mod layer_norm;
pub mod linear;
pub mod linear_cross_entropy;
pub mod logits;
pub mod rotary;
pub mod softmax_cross_entropy;

/// The gradient checks of the fused operations.
pub fn checks() -> Vec<Check> {
    let files = [
        attention::checks(),
        experts::checks(),
        gate::checks(),
        gated_experts::checks(),
        layer_norm::checks(),
        linear::checks(),
        linear_cross_entropy::checks(),
        logits::checks(),
        rotary::checks(),
        softmax_cross_entropy::checks(),
    ];
    files.into_iter().flatten().collect()
}

/// Consecutive sequences must fill the rows: `starts` has the first row of each, and the end of the last.
fn check_starts(op: &'static str, starts: &[usize], rows: usize, shapes: &[&[usize]]) -> Result<()> {
    if starts.first() == Some(&0) && starts.last() == Some(&rows) && starts.is_sorted() {
        return Ok(());
    }
    Err(shape_error(op, format!("sequences must fill the {rows} rows, from 0 on and in order"), shapes))
}

#[cfg(test)]
pub(crate) mod testing {
    use crate::engine::arr::{self, Arr};
    use crate::engine::error::Result;
    use crate::engine::gradcheck::random;
    use crate::engine::tape::{Mode, Tape, Var};

    /// Runs `f` on a training tape and on a teaching tape and compares the value and every gradient.
    pub fn assert_equals_reference<const N: usize>(
        inputs: [Arr<f64>; N],
        f: impl for<'t> Fn([Var<'t, f64>; N]) -> Result<Var<'t, f64>>,
    ) {
        let run = |mode| {
            let tape = Tape::new(mode);
            let x: [Var<f64>; N] = std::array::from_fn(|i| tape.variable(inputs[i].clone()));
            let y = f(x).unwrap();
            let gradients = tape.backward_from(y, random(&y.shape(), 5));
            let all: Vec<Arr<f64>> = x.iter().map(|x| gradients.wrt(*x)).collect();
            (y.value(), all)
        };
        let ((fused, fused_g), (plain, plain_g)) = (run(Mode::Train), run(Mode::Teach));
        assert_eq!(fused.shape(), plain.shape());
        for (a, b) in std::iter::once((&fused, &plain)).chain(fused_g.iter().zip(&plain_g)) {
            for (x, y) in arr::data(a).iter().zip(arr::data(b)) {
                assert!((x - y).abs() <= 1e-12 * y.abs().max(1.0), "{x} is not the reference's {y}");
            }
        }
    }
}
