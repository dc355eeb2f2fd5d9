//! Rotary positions of queries and keys.

use std::sync::Arc;

use super::check_starts;
use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::elem::Elem;
use crate::engine::kernels::rotary::{Turns, turn};
use crate::engine::tape::{Ctx, Fused, Op, Var, shape_error};

/// Rotates the pair (i, i + dh/2) of each head by `position * theta^(-2i/dh)`, for x (T, heads * dh).
///
/// A position counts from the start of its sequence. (Su and others, "RoFormer", 2021; the pairs are those of LLaMA.)
#[derive(Clone, Debug)]
pub struct Rotary {
    /// The first row of each sequence, and the end of the last.
    pub starts: Arc<[usize]>,
    /// Width dh of a head.
    pub head: usize,
    /// The base of the angles.
    pub theta: f64,
    /// The position of each sequence's first row.
    pub first: usize,
}

impl Rotary {
    fn turns<F: Elem>(&self) -> Turns<F> {
        let longest = self.starts.windows(2).map(|s| s[1] - s[0]).max().unwrap_or(0);
        Turns::new(self.head / 2, self.theta, self.first, longest)
    }

    /// The place of each row in its sequence.
    fn places(&self) -> Vec<u32> {
        self.starts.windows(2).flat_map(|s| 0..(s[1] - s[0]) as u32).collect()
    }

    fn turned<F: Elem>(&self, x: &Arr<F>, turns: &Turns<F>, back: bool) -> Arr<F> {
        let mut y = arr::uninit(x.shape());
        turn(arr::data_mut(&mut y), arr::data(x), x.shape()[1], &self.places(), turns, back);
        y
    }
}

impl<F: Elem> Op<F, 1> for Rotary {
    const NAME: &'static str = "rotary";
    type Saved = Turns<F>;
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, Turns<F>)> {
        let name = <Self as Op<F, 1>>::NAME;
        let head = self.head;
        if head == 0 || head % 2 == 1 {
            let why = format!("a head must have an even number of elements, not {head}");
            return Err(shape_error(name, why, &[x.shape()]));
        }
        let &[rows, width] = x.shape() else {
            return Err(shape_error(name, "x must be (T, heads * dh)", &[x.shape()]));
        };
        if width % head != 0 {
            let why = format!("{width} columns are no whole heads of {head}");
            return Err(shape_error(name, why, &[x.shape()]));
        }
        check_starts(name, &self.starts, rows, &[x.shape()])?;
        let turns = self.turns();
        Ok((self.turned(x, &turns, false), turns))
    }
    /// The transpose of a rotation is the rotation back.
    fn backward(&self, ctx: Ctx<F, Turns<F>, 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        [Some(self.turned(gy, ctx.saved, true))]
    }
}

impl<F: Elem> Fused<F, 1> for Rotary {
    fn reference<'t>(&self, [x]: [Var<'t, F>; 1]) -> Result<Var<'t, F>> {
        let (shape, pairs, turns, places) = (x.shape(), self.head / 2, self.turns::<F>(), self.places());
        let rows = places.iter().map(|&place| turns.at(place as usize));
        let (cos, sin): (Vec<_>, Vec<_>) = rows.unzip();
        let [cos, sin] =
            [cos, sin].map(|rows| x.tape().constant(arr::from_vec(&[places.len(), 1, pairs], rows.concat())));
        let x = x.reshape(&[shape[0], shape[1] / self.head, self.head]);
        let (a, b) = (x.slice(2, 0..pairs), x.slice(2, pairs..self.head));
        let turned = [a.mul(cos).sub(b.mul(sin)), b.mul(cos).add(a.mul(sin))];
        Ok(Var::concat(turned, 2).reshape(&shape))
    }
}

/// Sequences of 1, 3 and 2 rows.
fn example(head: usize) -> Rotary {
    Rotary { starts: [0, 1, 4, 6].into(), head, theta: 10.0, first: 2 }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "rotary",
        run: || gradcheck([random(&[6, 8], 1)], |[x]| x.tape().apply(example(4), [x])),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ops::fused::testing::assert_equals_reference;
    use crate::engine::{Mode, Tape};

    #[test]
    fn equals_its_reference() {
        for head in [2, 6, 12] {
            assert_equals_reference([random(&[6, 12], 1)], move |[x]| {
                x.tape().apply_fused(example(head), [x])
            });
        }
    }

    #[test]
    fn the_product_of_two_turned_heads_depends_on_their_distance_alone() {
        let tape = Tape::new(Mode::Infer);
        let rows = |seed| tape.constant(arr::from_vec(&[9, 4], arr::data(&random(&[1, 4], seed)).repeat(9)));
        let turned =
            |x, first| tape.apply(Rotary { starts: [0, 9].into(), first, ..example(4) }, [x]).unwrap();
        let products = |first| turned(rows(1), first).mul(turned(rows(2), first + 3)).sum_axes(&[1]).value();
        let all = [products(0), products(50)];
        let first = arr::data(&all[0])[0];
        assert!(all.iter().flat_map(arr::data).all(|p| (p - first).abs() < 1e-12));
    }

    #[test]
    fn shapes_that_do_not_fit_are_explained() {
        let tape = Tape::new(Mode::Infer);
        let message = |rotary, shape: &[usize]| {
            tape.apply(rotary, [tape.constant(arr::zeros::<f32>(shape))]).err().unwrap().to_string()
        };
        assert!(
            message(example(3), &[6, 6])
                .starts_with("rotary: a head must have an even number of elements, not 3")
        );
        assert!(message(example(4), &[6, 6]).contains("6 columns are no whole heads of 4"));
        assert!(message(example(4), &[6]).contains("x must be (T, heads * dh)"));
        assert!(message(example(4), &[7, 4]).contains("sequences must fill the 7 rows, from 0 on"));
    }
}
