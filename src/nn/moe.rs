//! One mixture-of-experts layer: a router and its experts, or a single dense expert without a router.

use std::sync::Arc;

use serde::Serialize;

use super::Phase;
use super::experts::{AnyExperts, Form};
use super::param::{Init, Module, Visitor};
use super::router::{Layer, Losses, Router, Routing, Settings};
use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::kernels::{elem::Elem, pool::Buffer, reduce, routes::Routes, rows};
use crate::engine::tape::Var;

/// A layer of experts.
#[derive(Clone, Debug)]
pub struct Moe<F: Elem> {
    /// Chooses the experts; `None` for a dense layer, whose one expert serves every token.
    pub router: Option<Box<dyn Router<F>>>,
    /// The experts.
    pub experts: AnyExperts<F>,
}

/// How a layer used its experts, added up over tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Tokens seen.
    pub tokens: u64,
    /// Tokens that each expert served.
    pub counts: Vec<u64>,
    /// How many tokens had k experts, at index k.
    pub k_counts: Vec<u64>,
    /// Assignments that were wanted and found no room.
    pub dropped: u64,
    /// Sum over tokens of the entropy of the router's probabilities, in bits; only in evaluation.
    pub entropy_bits: f64,
    /// The threshold of the last training batch, where one number decided for all tokens.
    #[serde(skip)]
    pub threshold: Option<f64>,
}

/// What a layer did with a batch of tokens.
pub struct Dispatch<'t, F: Elem> {
    /// Counts.
    pub usage: Usage,
    /// Which token went to which expert.
    pub routes: Arc<Routes>,
    /// With what weight, (T, E); 0 where an expert was not chosen.
    pub gates: Var<'t, F>,
    /// Losses beside the task's, by name, already weighted; only in training.
    pub losses: Losses<'t, F>,
}

impl Usage {
    fn new(routes: &Routes) -> Usage {
        let mut k_counts = vec![0; routes.experts() + 1];
        (0..routes.token_count()).for_each(|t| k_counts[routes.k(t)] += 1);
        Usage {
            tokens: routes.token_count() as u64,
            counts: routes.counts().map(|c| c as u64).collect(),
            k_counts,
            dropped: 0,
            entropy_bits: 0.0,
            threshold: None,
        }
    }

    /// Adds another batch.
    pub fn add(&mut self, other: &Usage) {
        let sum = |a: &mut Vec<u64>, b: &[u64]| {
            a.resize(b.len(), 0);
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        };
        self.tokens += other.tokens;
        sum(&mut self.counts, &other.counts);
        sum(&mut self.k_counts, &other.k_counts);
        self.dropped += other.dropped;
        self.entropy_bits += other.entropy_bits;
        self.threshold = other.threshold.or(self.threshold);
    }
}

impl<F: Elem> Moe<F> {
    /// A routed layer, number `layer` of its model, with `experts` experts.
    pub fn routed(
        width: usize,
        hidden: usize,
        experts: usize,
        layer: usize,
        settings: &Settings,
        form: Form,
        init: &mut Init,
    ) -> Moe<F> {
        let router = Some(settings.router(Layer { number: layer, width, experts }, init));
        Moe { router, experts: AnyExperts::new(form, experts, width, hidden, init) }
    }

    /// A dense layer.
    pub fn dense(width: usize, hidden: usize, form: Form, init: &mut Init) -> Moe<F> {
        Moe { router: None, experts: AnyExperts::new(form, 1, width, hidden, init) }
    }

    /// Tokens (T, d) to (T, d), without the residual, and how they were dispatched.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<(Var<'t, F>, Dispatch<'t, F>)> {
        let Some(router) = &self.router else {
            let tokens = x.shape()[0];
            let routes = Arc::new(Routes::new(&vec![true; tokens], 1));
            let gates = x.tape().constant(arr::full(&[tokens, 1], F::one()));
            let usage = Usage::new(&routes);
            let y = self.experts.forward(x, gates, routes.clone())?;
            return Ok((y, Dispatch { usage, routes, gates, losses: Vec::new() }));
        };
        let Routing { gates, routes, probabilities, threshold, dropped, losses } = router.route(x, phase)?;
        let mut usage = Usage { threshold, dropped, ..Usage::new(&routes) };
        if phase == Phase::Eval {
            usage.entropy_bits = entropy_bits(&probabilities);
        }
        let y = self.experts.forward(x, gates, routes.clone())?;
        Ok((y, Dispatch { usage, routes, gates, losses }))
    }

    /// Takes the statistics of a training batch into the layer's running numbers.
    pub fn absorb(&mut self, usage: &Usage) {
        if let Some(router) = &mut self.router {
            router.absorb(usage);
        }
    }
}

/// Sum over rows of `-sum p log2 p`.
fn entropy_bits<F: Elem>(probabilities: &Arr<F>) -> f64 {
    let mut rows = Buffer::new(probabilities.shape()[0]);
    rows::fold(
        &mut rows,
        arr::data(probabilities),
        #[inline(always)]
        |p| {
            reduce::lanes(
                p,
                F::zero(),
                #[inline(always)]
                |sum, p| sum - if p > F::zero() { p * p.ln() } else { F::zero() },
                #[inline(always)]
                |a, b| a + b,
            )
        },
    );
    rows.iter().map(|nats| nats.f64()).sum::<f64>() * std::f64::consts::LOG2_E
}

impl<F: Elem> Module<F> for Moe<F> {
    fn visit(&mut self, v: &mut Visitor<'_, F>) {
        let Moe { router, experts } = self;
        if let Some(router) = router {
            v.child("router", router.as_mut());
        }
        v.child("experts", experts);
    }
}
