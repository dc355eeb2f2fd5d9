//! The kernel against plain loops, to the bit.

use super::*;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::kernels::scalar::Scalar;
use crate::engine::kernels::simd;

/// A layer large enough for several blocks and chunks: 5 experts, the last of them without tokens.
struct Example {
    x: Vec<f32>,
    gates: Vec<f32>,
    /// W1, W2 and, with relu, both biases.
    parameters: Vec<Vec<f32>>,
    mask: Vec<bool>,
    routes: Routes,
    activation: Activation,
}

const T: usize = if cfg!(miri) { 100 } else { 700 };
const E: usize = 5;
const D: usize = 21;
const H: usize = 13;

fn example(activation: Activation) -> Example {
    let numbers = |len: usize, seed: u64| {
        let mut out = vec![0.0; len];
        Stream::new(seed, Purpose::Check, 0, 0).normal(&mut out, 1.0);
        out
    };
    let mut mask = vec![false; T * E];
    Stream::new(7, Purpose::Check, 0, 0).coin(&mut mask, 0.5);
    mask.iter_mut().skip(E - 1).step_by(E).for_each(|m| *m = false);
    let lengths = match activation {
        Activation::Relu => vec![E * D * H, E * H * D, E * H, E * D],
        Activation::SwiGlu => vec![E * D * 2 * H, E * H * D],
    };
    let parameters = lengths.into_iter().zip(3..).map(|(len, seed)| numbers(len, seed)).collect();
    let (x, gates) = (numbers(T * D, 1), numbers(T * E, 2));
    Example { x, gates, parameters, routes: Routes::new(&mask, E), mask, activation }
}

impl Example {
    fn weights(&self) -> Weights<'_, f32> {
        let [w1, w2, biases @ ..] = &self.parameters[..] else { unreachable!() };
        let biases = <&[Vec<f32>; 2]>::try_from(biases).ok().map(|b| b.each_ref().map(Vec::as_slice));
        Weights { w1, w2, biases, activation: self.activation, width: D, hidden: H }
    }

    /// Outputs and all gradients, through the kernels.
    fn run(&self, gy: &[f32]) -> Vec<Vec<f32>> {
        let (n, f) = (self.routes.len(), self.weights().first());
        let (mut first, mut output, mut y) = (vec![0.0; n * f], vec![0.0; n * D], vec![0.0; T * D]);
        forward(&self.x, self.weights(), &self.routes, &mut first, &mut output);
        let gates = self.routes.gather(&self.gates);
        combine(&mut y, &output, &gates, &self.routes, D);
        let saved = Forward { x: &self.x, gates: &gates, first: &first };
        let mut g: Vec<_> = [&self.x, &self.gates]
            .into_iter()
            .chain(&self.parameters)
            .map(|of| vec![f32::NAN; of.len()])
            .collect();
        let [x, gates, w1, w2, biases @ ..] = &mut g[..] else { unreachable!() };
        let biases = <&mut [Vec<f32>; 2]>::try_from(biases).ok().map(|b| b.each_mut().map(Vec::as_mut_slice));
        let gradients = Gradients { x: Some(x), gates, w1, w2, biases };
        backward(gy, saved, self.weights(), &self.routes, gradients);
        [vec![y], g].concat()
    }

    /// The same as plain loops, one expert after the other, over matrices gathered whole.
    fn plain(&self, gy: &[f32]) -> Vec<Vec<f32>> {
        let (w, routes) = (self.weights(), &self.routes);
        let (f, relu) = (w.first(), self.activation == Activation::Relu);
        let mut y = vec![0.0f32; T * D];
        let mut g = [T * D, T * E, E * D * f, E * H * D, E * f, E * D].map(|len| vec![0.0f32; len]);
        for e in 0..E {
            let tokens = &routes.tokens[routes.starts[e]..routes.starts[e + 1]];
            let n = tokens.len();
            let rows = |from: &[f32]| -> Vec<f32> {
                tokens.iter().flat_map(|&t| from[t as usize * D..][..D].to_vec()).collect()
            };
            let gate = |i: usize| self.gates[tokens[i] as usize * E + e];
            let (x, gy) = (rows(&self.x), rows(gy));
            let b2 = w.b2(e).map_or(vec![0.0; D], <[f32]>::to_vec);
            let mut first = vec![0.0; n * f];
            gemm::plain(&mut first, Mat::new(&x, n, D), w.w1(e), w.b1(e), relu);
            let half = |i: usize| (first[i / H * f + i % H], first[i / H * f + f - H + i % H]);
            let hidden: Vec<f32> = (0..n * H)
                .map(|i| match half(i) {
                    (v, _) if relu => v,
                    (x, y) => x * x.sigmoid() * y,
                })
                .collect();
            let mut output = b2.repeat(n);
            gemm::plain(&mut output, Mat::new(&hidden, n, H), w.w2(e), Start::Sum, false);
            let mut u = vec![0.0; n * H];
            gemm::plain(&mut u, Mat::new(&gy, n, D), w.w2(e).t(), Start::Sum, false);
            let by_gate = |x: &[f32]| x.iter().enumerate().map(|(i, v)| gate(i / H) * v).collect::<Vec<_>>();
            let (g_hidden, gated) = (by_gate(&u), by_gate(&hidden));
            let mut g_first = vec![0.0; n * f];
            for (i, g) in g_hidden.into_iter().enumerate() {
                let (at, (x, y)) = (i / H * f + i % H, half(i));
                if relu {
                    g_first[at] = if x > 0.0 { g } else { 0.0 };
                } else {
                    let s = x.sigmoid();
                    g_first[at] = g * y * (s + x * s * (1.0 - s));
                    g_first[at + H] = g * (x * s);
                }
            }
            let mut g_x = vec![0.0; n * D];
            gemm::plain(&mut g_x, Mat::new(&g_first, n, f), w.w1(e).t(), Start::Sum, false);
            for (i, &t) in tokens.iter().enumerate() {
                for j in 0..D {
                    let (to, from) = (t as usize * D + j, i * D + j);
                    y[to] = gate(i).mul_add(output[from], y[to]);
                    g[0][to] += g_x[from];
                }
                g[1][t as usize * E + e] = reduce::dot::<f32>(&u[i * H..][..H], &hidden[i * H..][..H])
                    + reduce::dot::<f32>(&gy[i * D..][..D], &b2);
            }
            let rows = |x, width| Mat::new(x, n, width);
            let (g_first, gy) = (rows(&g_first, f), rows(&gy, D));
            gemm::plain(&mut g[2][e * D * f..][..D * f], rows(&x, D).t(), g_first, Start::Sum, false);
            gemm::plain(&mut g[3][e * D * H..][..D * H], rows(&gated, H).t(), gy, Start::Sum, false);
            let ones = vec![1.0; n];
            let gates: Vec<f32> = (0..n).map(gate).collect();
            gemm::plain(&mut g[4][e * f..][..f], Mat::new(&ones, 1, n), g_first, Start::Sum, false);
            gemm::plain(&mut g[5][e * D..][..D], Mat::new(&gates, 1, n), gy, Start::Sum, false);
        }
        [vec![y], g[..2 + self.parameters.len()].to_vec()].concat()
    }
}

#[test]
fn a_token_alone_has_the_bits_it_has_in_a_batch() {
    for activation in [Activation::Relu, Activation::SwiGlu] {
        let example = example(activation);
        let all = &example.run(&[0.0; T * D])[0];
        let f = example.weights().first();
        for t in [0, 1, T / 2, T - 1] {
            let routes = Routes::new(&example.mask[t * E..][..E], E);
            let (mut first, mut output) = (vec![0.0; routes.len() * f], vec![0.0; routes.len() * D]);
            forward(&example.x[t * D..][..D], example.weights(), &routes, &mut first, &mut output);
            let mut y = [f32::NAN; D];
            combine(&mut y, &output, &routes.gather(&example.gates[t * E..][..E]), &routes, D);
            assert_eq!(y[..], all[t * D..][..D], "{activation:?}, token {t}");
        }
    }
}

#[test]
fn the_layer_and_its_gradients_are_the_plain_loops_to_the_bit_at_every_level_and_thread_count() {
    for activation in [Activation::Relu, Activation::SwiGlu] {
        let example = example(activation);
        let mut gy = vec![0.0; T * D];
        Stream::new(8, Purpose::Check, 0, 0).normal(&mut gy, 1.0);
        let plain = example.plain(&gy);
        simd::on_every_level(|level| {
            for threads in [1, 2, 3, 8] {
                let got = par::with_threads(threads, || example.run(&gy));
                assert_eq!(got.len(), plain.len());
                let names = ["y", "g_x", "g_gates", "g_w1", "g_w2", "g_b1", "g_b2"];
                for ((got, plain), name) in got.iter().zip(&plain).zip(names) {
                    let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    let what = format!("{activation:?} at level {level}, {threads} threads");
                    assert!(bits(got) == bits(plain), "{name} of {what}");
                }
            }
        });
    }
}
