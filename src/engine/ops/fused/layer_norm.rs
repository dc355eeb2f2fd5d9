//! Layer normalization over the last axis, with gain and bias.

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::{elem::Elem, pool::Buffer, reduce, rows};
use crate::engine::tape::{Ctx, Fused, Op, Var, shape_error};

/// `(x - mean) / sqrt(var + epsilon) * gain + bias` over the last axis (population variance).
pub struct LayerNorm {
    /// Added to the variance.
    pub epsilon: f64,
}

impl<F: Elem> Op<F, 3> for LayerNorm {
    const NAME: &'static str = "layer_norm";
    /// Mean and `1 / sqrt(var + epsilon)` of each row.
    type Saved = Buffer<F>;
    fn forward(&self, [x, gain, bias]: [&Arr<F>; 3]) -> Result<(Arr<F>, Self::Saved)> {
        let width = x.shape().last().copied().unwrap_or(0);
        if gain.shape() != [width] || bias.shape() != [width] || width == 0 {
            let why = "gain and bias need one element for each of the last axis";
            return Err(shape_error("layer_norm", why, &[x.shape(), gain.shape(), bias.shape()]));
        }
        let (data, epsilon, count) = (arr::data(x), F::of(self.epsilon), F::of(width as f64));
        let (gain, bias) = (arr::data(gain), arr::data(bias));
        let mut moments = Buffer::new(2 * x.len() / width);
        let mut y = arr::uninit(x.shape());
        rows::each2(
            (arr::data_mut(&mut y), width),
            (&mut moments, 2),
            #[inline(always)]
            |r, y, moments| {
                let x = &data[r * width..][..width];
                let mean = reduce::sum_lanes(x) / count;
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = x - mean;
                }
                let scale = F::one() / (reduce::dot_lanes(y, y) / count + epsilon).sqrt();
                for ((y, &gain), &bias) in y.iter_mut().zip(gain).zip(bias) {
                    *y = (*y * scale).mul_add(gain, bias);
                }
                moments.copy_from_slice(&[mean, scale]);
            },
        );
        Ok((y, moments))
    }
    /// With `n = (x - mean) scale` and `g = gy gain`: `gx = scale (g - mean(g) - n mean(g n))`.
    fn backward(&self, ctx: Ctx<F, Self::Saved, 3>, gy: &Arr<F>) -> [Option<Arr<F>>; 3] {
        let [x, gain, _] = ctx.x;
        let (moments, width) = (ctx.saved, gain.len());
        let (data, gain, gy_data) = (arr::data(x), arr::data(gain), arr::data(gy));
        let count = F::of(width as f64);
        // gy times the normalized input, whose column sums are the gradient of the gain.
        let mut gy_n = Buffer::<F>::new(x.len());
        let mut gx = arr::uninit(x.shape());
        rows::each2(
            (arr::data_mut(&mut gx), width),
            (&mut gy_n, width),
            #[inline(always)]
            |r, gx, gy_n| {
                let here = r * width..(r + 1) * width;
                let (x, gy) = (&data[here.clone()], &gy_data[here]);
                let (mean, scale) = (moments[2 * r], moments[2 * r + 1]);
                for (((gx, gy_n), &g), &x) in gx.iter_mut().zip(gy_n.iter_mut()).zip(gy).zip(x) {
                    *gx = (x - mean) * scale;
                    *gy_n = g * *gx;
                }
                let mean_g = reduce::dot_lanes(gy, gain) / count;
                let mean_gn = reduce::dot_lanes(gy_n, gain) / count;
                for ((gx, &g), &gain) in gx.iter_mut().zip(gy).zip(gain) {
                    *gx = scale * (g * gain - mean_g - *gx * mean_gn);
                }
            },
        );
        let (mut g_gain, mut g_bias) = (arr::zeros(&[width]), arr::zeros(&[width]));
        reduce::add_rows(arr::data_mut(&mut g_gain), &gy_n);
        reduce::add_rows(arr::data_mut(&mut g_bias), gy_data);
        [Some(gx), Some(g_gain), Some(g_bias)]
    }
}

impl<F: Elem> Fused<F, 3> for LayerNorm {
    fn reference<'t>(&self, [x, gain, bias]: [Var<'t, F>; 3]) -> Result<Var<'t, F>> {
        let shape = x.shape();
        let (last, mut column) = (shape.len() - 1, shape.clone());
        column[last] = 1;
        let centered = x.sub(x.mean_axes(&[last]).reshape(&column));
        let deviation = x.var_axes(&[last]).shift(self.epsilon).sqrt().reshape(&column);
        Ok(centered.div(deviation).mul(gain).add(bias))
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// Layer normalization over the last axis with `epsilon = 1e-5`.
    #[track_caller]
    pub fn layer_norm(self, gain: Self, bias: Self) -> Self {
        self.tape()
            .apply_fused(LayerNorm { epsilon: 1e-5 }, [self, gain, bias])
            .unwrap_or_else(|e| panic!("{e}"))
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "layer_norm",
        run: || {
            gradcheck([random(&[2, 3, 5], 1), random(&[5], 2), random(&[5], 3)], |[x, g, b]| {
                Ok(x.layer_norm(g, b))
            })
        },
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ops::fused::testing::assert_equals_reference;

    #[test]
    fn equals_its_reference() {
        assert_equals_reference([random(&[6, 19], 1), random(&[19], 2), random(&[19], 3)], |[x, g, b]| {
            x.tape().apply_fused(LayerNorm { epsilon: 1e-5 }, [x, g, b])
        });
    }
}
