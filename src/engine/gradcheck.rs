//! Checks gradients against differences: for the shipped operations and for your own.
//!
//! The output is multiplied by a random cotangent before it is summed. A plain sum would hide mistakes:
//! the gradient of `sum(softmax(x))` is zero, whatever softmax's backward does.

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::tape::{Mode, Tape, Var};

/// What a gradient check found.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// How many derivatives were compared.
    pub derivatives: usize,
    /// The largest error, `|tape - difference| / max(1, |difference|)`.
    pub worst: f64,
}

impl Report {
    /// Errors up to this size come from the differences themselves.
    pub const TOLERANCE: f64 = 1e-6;

    /// Whether every derivative agrees.
    pub fn passed(&self) -> bool {
        self.worst <= Report::TOLERANCE
    }
}

/// A named gradient check of one operation.
pub struct Check {
    /// The operation's [`crate::Op::NAME`].
    pub op: &'static str,
    /// Runs it.
    pub run: fn() -> Result<Report>,
}

/// Compares the tape's gradient of `f` at `inputs` with central differences, in f64, for every element
/// of every input.
///
/// ```
/// use dynamoe::{arr, engine::gradcheck::gradcheck};
/// let x = arr::from_vec(&[3], vec![0.1, -0.7, 2.0]);
/// let report = gradcheck([x], |[x]| Ok(x.tanh() * x)).unwrap();
/// assert!(report.passed());
/// ```
///
/// # Errors
/// Those of `f`.
pub fn gradcheck<const N: usize>(
    inputs: [Arr<f64>; N],
    f: impl for<'t> Fn([Var<'t, f64>; N]) -> Result<Var<'t, f64>>,
) -> Result<Report> {
    gradcheck_in(Mode::Train, inputs, &f)
}

/// A function of `N` variables.
pub type Function<'f, const N: usize> = &'f dyn for<'t> Fn([Var<'t, f64>; N]) -> Result<Var<'t, f64>>;

/// [`gradcheck`] on a tape of another mode.
///
/// # Errors
/// Those of `f`.
pub fn gradcheck_in<const N: usize>(mode: Mode, inputs: [Arr<f64>; N], f: Function<N>) -> Result<Report> {
    const STEP: f64 = 1e-5;
    let tape = Tape::new(mode);
    let vars = std::array::from_fn(|i| tape.variable(inputs[i].clone()));
    let y = f(vars)?;
    let cotangent = random(&y.shape(), 77);
    let gradients = tape.backward_from(y, cotangent.clone());
    // sum(f(inputs) * cotangent) with one element of one input moved.
    let value = |input: usize, element: usize, by: f64| -> Result<f64> {
        let mut moved = inputs.clone();
        arr::data_mut(&mut moved[input])[element] += by;
        let tape = Tape::new(mode);
        let y = f(std::array::from_fn(|i| tape.constant(moved[i].clone())))?.value();
        Ok(arr::data(&y).iter().zip(arr::data(&cotangent)).map(|(y, c)| y * c).sum())
    };
    let mut report = Report { derivatives: 0, worst: 0.0 };
    for (i, input) in inputs.iter().enumerate() {
        let exact = gradients.wrt(vars[i]);
        for j in 0..input.len() {
            let difference = (value(i, j, STEP)? - value(i, j, -STEP)?) / (2.0 * STEP);
            let exact = arr::data(&exact)[j];
            let error = (exact - difference).abs() / difference.abs().max(1.0);
            // A NaN counts as the largest error there is.
            report.worst = if error <= report.worst { report.worst } else { error };
            report.derivatives += 1;
        }
    }
    if report.worst.is_nan() {
        report.worst = f64::INFINITY;
    }
    Ok(report)
}

/// Standard normal numbers in f64, the same for the same `seed`.
pub fn random(shape: &[usize], seed: u64) -> Arr<f64> {
    let mut numbers = vec![0.0f32; shape.iter().product()];
    Stream::new(seed, Purpose::Check, 0, 0).normal(&mut numbers, 1.0);
    arr::from_vec(shape, numbers.into_iter().map(f64::from).collect())
}

/// Random numbers of at least 0.5, for functions of positive arguments.
pub fn random_positive(shape: &[usize], seed: u64) -> Arr<f64> {
    arr::map(&random(shape, seed), |x| 0.5 + x.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Ctx, Op};

    /// x squared with a gradient that forgets the factor two.
    struct Wrong;
    impl Op<f64, 1> for Wrong {
        const NAME: &'static str = "wrong";
        type Saved = ();
        fn forward(&self, [x]: [&Arr<f64>; 1]) -> Result<(Arr<f64>, ())> {
            Ok((arr::map(x, |x| x * x), ()))
        }
        fn backward(&self, ctx: Ctx<f64, (), 1>, gy: &Arr<f64>) -> [Option<Arr<f64>>; 1] {
            [Some(arr::zip(ctx.x[0], gy, |x, g| x * g))]
        }
    }

    #[test]
    fn a_wrong_gradient_is_found() {
        let report = gradcheck([random(&[4], 1)], |[x]| x.tape().apply(Wrong, [x])).unwrap();
        assert!(!report.passed(), "{report:?}");
    }
}
