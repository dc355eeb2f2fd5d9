//! Dropout.

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::kernels::{elem::Elem, par, simd::fast};
use crate::engine::tape::{Ctx, Op, Var, shape_error};

/// Zeroes random elements and scales the others up.
pub struct Dropout {
    p: f64,
    stream: Stream,
}

impl Dropout {
    /// `x / (1 - p)` where `keep` says so, else 0.
    fn keep<F: Elem>(&self, x: &Arr<F>, keep: &[bool]) -> Arr<F> {
        const CHUNK: usize = 16 * 1024;
        let (mut out, x, rest) = (arr::uninit(x.shape()), arr::data(x), F::of(1.0 - self.p));
        par::chunks(arr::data_mut(&mut out), CHUNK, |i, out| {
            let here = i * CHUNK..i * CHUNK + out.len();
            let (x, keep) = (&x[here.clone()], &keep[here]);
            fast::<F, _>(
                #[inline(always)]
                || {
                    for ((o, &x), &keep) in out.iter_mut().zip(x).zip(keep) {
                        let kept = x / rest;
                        *o = if keep { kept } else { F::zero() };
                    }
                },
            );
        });
        out
    }
}

impl<F: Elem> Op<F, 1> for Dropout {
    const NAME: &'static str = "dropout";
    type Saved = Vec<bool>;
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, Vec<bool>)> {
        if !(0.0..1.0).contains(&self.p) {
            let why = format!("the probability {} does not lie in 0 <= p < 1", self.p);
            return Err(shape_error(<Self as Op<F, 1>>::NAME, why, &[x.shape()]));
        }
        let mut keep = vec![false; x.len()];
        self.stream.coin(&mut keep, 1.0 - self.p);
        Ok((self.keep(x, &keep), keep))
    }
    fn backward(&self, ctx: Ctx<F, Vec<bool>, 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        [Some(self.keep(gy, ctx.saved))]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// Zeroes each element with probability `p` and divides the others by `1 - p`, so that the mean stays;
    /// `p = 0` changes nothing. `stream` decides which: the same stream zeroes the same elements.
    #[track_caller]
    pub fn dropout(self, p: f64, stream: &Stream) -> Self {
        if p == 0.0 { self } else { Var::apply(Dropout { p, stream: *stream }, [self]) }
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "dropout",
        run: || {
            let stream = Stream::new(3, Purpose::Dropout, 0, 0);
            gradcheck([random(&[5, 7], 1)], move |[x]| Ok(x.dropout(0.4, &stream)))
        },
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Mode, Tape};

    #[test]
    fn elements_are_zero_or_scaled_and_the_mean_stays() {
        let tape = Tape::new(Mode::Infer);
        let x = tape.constant(arr::full(&[100_000], 3.0f32));
        let stream = Stream::new(3, Purpose::Dropout, 0, 0);
        let y = x.dropout(0.25, &stream);
        assert!(arr::data(&y.value()).iter().all(|&y| y == 0.0 || y == 4.0));
        assert!((y.mean().item() - 3.0).abs() < 0.03);
        assert_eq!(x.dropout(0.25, &stream).value(), y.value());
        assert_eq!(x.dropout(0.0, &stream).value(), x.value());
    }

    #[test]
    fn impossible_probabilities_are_refused() {
        let tape = Tape::new(Mode::Infer);
        let x = tape.constant(arr::full(&[2], 3.0f32));
        let stream = Stream::new(3, Purpose::Dropout, 0, 0);
        for p in [1.0, -0.1, f64::NAN] {
            let error = tape.apply(Dropout { p, stream }, [x]).err().unwrap();
            assert!(error.to_string().contains("does not lie in 0 <= p < 1"));
        }
    }
}
