//! Layer normalisation over the last axis, with gain and bias.

use crate::arr::{self, Arr};
use crate::error::Result;
use crate::gradcheck::{Check, gradcheck, random};
use crate::kernels::{elem::Elem, pool::Buffer, reduce, rows, simd::fast};
use crate::tape::{Ctx, Fused, Op, Var, shape_error};

/// `(x - mean) / sqrt(var + epsilon) * gain + bias` over the last axis (population variance).
pub struct LayerNorm {
    /// Added to the variance.
    pub epsilon: f64,
}

impl<E: Elem> Op<E, 3> for LayerNorm {
    const NAME: &'static str = "layer_norm";
    /// Mean and `1 / sqrt(var + epsilon)` of each row.
    type Saved = Vec<(E, E)>;
    fn forward(&self, [x, gain, bias]: [&Arr<E>; 3]) -> Result<(Arr<E>, Vec<(E, E)>)> {
        let width = x.shape().last().copied().unwrap_or(0);
        if gain.shape() != [width] || bias.shape() != [width] || width == 0 {
            let why = "gain and bias need one element for each of the last axis";
            return Err(shape_error("layer_norm", why, &[x.shape(), gain.shape(), bias.shape()]));
        }
        let (data, epsilon, count) = (arr::data(x), E::of(self.epsilon), E::of(width as f64));
        let mut statistics = vec![(E::zero(), E::zero()); x.len() / width];
        for (x, s) in data.chunks_exact(width).zip(&mut statistics) {
            *s = fast(
                #[inline(always)]
                || {
                    let mean = reduce::sum_lanes(x) / count;
                    let squares = reduce::lanes(
                        x,
                        E::zero(),
                        #[inline(always)]
                        |a, v| (v - mean).mul_add(v - mean, a),
                        #[inline(always)]
                        |a, b| a + b,
                    );
                    (mean, E::one() / (squares / count + epsilon).sqrt())
                },
            );
        }
        let (gain, bias) = (arr::data(gain), arr::data(bias));
        let mut y = arr::fresh(x.shape());
        rows::each_block(arr::data_mut(&mut y), width, |first, y| {
            let x = &data[first * width..];
            fast(
                #[inline(always)]
                || {
                    for ((y, x), &(mean, scale)) in
                        y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(&statistics[first..])
                    {
                        for (((y, &x), &gain), &bias) in y.iter_mut().zip(x).zip(gain).zip(bias) {
                            *y = ((x - mean) * scale).mul_add(gain, bias);
                        }
                    }
                },
            );
        });
        Ok((y, statistics))
    }
    /// With `n = (x - mean) scale` and `g = gy gain`: `gx = scale (g - mean(g) - n mean(g n))`.
    fn backward(&self, ctx: Ctx<E, Vec<(E, E)>, 3>, gy: &Arr<E>) -> [Option<Arr<E>>; 3] {
        let [x, gain, _] = ctx.x;
        let width = gain.len();
        let (data, gain_data, gy_data) = (arr::data(x), arr::data(gain), arr::data(gy));
        let count = E::of(width as f64);
        let mut gx = arr::fresh(x.shape());
        // gy times the normalised input, whose column sums are the gradient of the gain.
        let mut gy_n = Buffer::<E>::new(x.len());
        for ((gy, x), (out, &(mean, scale))) in gy_data
            .chunks_exact(width)
            .zip(data.chunks_exact(width))
            .zip(gy_n.chunks_exact_mut(width).zip(ctx.saved))
        {
            fast(
                #[inline(always)]
                || {
                    for ((o, &g), &x) in out.iter_mut().zip(gy).zip(x) {
                        *o = g * ((x - mean) * scale);
                    }
                },
            );
        }
        let gy_n_data: &[E] = &gy_n;
        rows::each_block(arr::data_mut(&mut gx), width, |first, gx| {
            let (x, gy, gy_n) = (&data[first * width..], &gy_data[first * width..], &gy_n_data[first * width..]);
            for (((gx, x), (gy, gy_n)), &(mean, scale)) in gx
                .chunks_exact_mut(width)
                .zip(x.chunks_exact(width))
                .zip(gy.chunks_exact(width).zip(gy_n.chunks_exact(width)))
                .zip(&ctx.saved[first..])
            {
                fast(
                    #[inline(always)]
                    || {
                        let mean_g = reduce::dot_lanes(gy, gain_data) / count;
                        let mean_gn = reduce::dot_lanes(gy_n, gain_data) / count;
                        for (((gx, &x), &g), &gain) in gx.iter_mut().zip(x).zip(gy).zip(gain_data) {
                            let n = (x - mean) * scale;
                            *gx = scale * (g * gain - mean_g - n * mean_gn);
                        }
                    },
                );
            }
        });
        let (mut g_gain, mut g_bias) = (arr::zeros(&[width]), arr::zeros(&[width]));
        reduce::add_rows(arr::data_mut(&mut g_gain), &gy_n);
        reduce::add_rows(arr::data_mut(&mut g_bias), gy_data);
        [Some(gx), Some(g_gain), Some(g_bias)]
    }
}

impl<E: Elem> Fused<E, 3> for LayerNorm {
    fn reference<'t>(&self, [x, gain, bias]: [Var<'t, E>; 3]) -> Result<Var<'t, E>> {
        let shape = x.shape();
        let (last, mut column) = (shape.len() - 1, shape.clone());
        column[last] = 1;
        let centred = x.sub(x.mean_axes(&[last]).reshape(&column));
        let deviation = x.var_axes(&[last]).shift(self.epsilon).sqrt().reshape(&column);
        Ok(centred.div(deviation).mul(gain).add(bias))
    }
}

impl<'t, E: Elem> Var<'t, E> {
    /// Layer normalisation over the last axis with `epsilon = 1e-5`.
    #[track_caller]
    pub fn layer_norm(self, gain: Self, bias: Self) -> Self {
        self.tape().apply_fused(LayerNorm { epsilon: 1e-5 }, [self, gain, bias]).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "layer_norm",
        run: || {
            gradcheck([random(&[2, 3, 5], 1), random(&[5], 2), random(&[5], 3)], |[x, g, b]| Ok(x.layer_norm(g, b)))
        },
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::fused::testing::assert_equals_reference;

    #[test]
    fn equals_its_reference() {
        assert_equals_reference([random(&[6, 19], 1), random(&[19], 2), random(&[19], 3)], |[x, g, b]| {
            x.tape().apply_fused(LayerNorm { epsilon: 1e-5 }, [x, g, b])
        });
    }
}
