//! One mixture-of-experts layer: a router and its experts, or a single dense expert without a router.

use std::sync::Arc;

use super::experts::{AnyExperts, Form};
use super::param::Init;
use super::phase::Phase;
use super::router::{Layer, Losses, Router, Routing, Settings};
use super::usage::Usage;
use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::kernels::{elem::Elem, pool::Buffer, reduce, routes::Routes, rows};
use crate::engine::tape::Var;
use crate::module;

/// A layer of experts.
#[derive(Clone, Debug)]
pub struct Moe<F: Elem> {
    /// Chooses the experts; `None` for a dense layer, whose one expert serves every token.
    pub router: Option<Box<dyn Router<F>>>,
    /// The experts.
    pub experts: AnyExperts<F>,
}

/// How a layer dispatched a batch of tokens.
pub struct Dispatch<'t, F: Elem> {
    /// How many tokens each expert served.
    pub usage: Usage,
    /// Which token went to which expert.
    pub routes: Arc<Routes>,
    /// The weight of each expert for each token, (T, E); 0 where not chosen.
    pub gates: Var<'t, F>,
    /// Auxiliary losses by name, already weighted; only in training.
    pub losses: Losses<'t, F>,
}

impl<F: Elem> Moe<F> {
    /// A routed layer, with experts of hidden width `hidden`.
    pub fn routed(layer: Layer, hidden: usize, form: Form, router: &Settings, init: &mut Init) -> Moe<F> {
        let router = Some(router.router(layer, init));
        Moe { router, experts: AnyExperts::new(form, layer.experts, layer.width, hidden, init) }
    }

    /// A dense layer.
    pub fn dense(width: usize, hidden: usize, form: Form, init: &mut Init) -> Moe<F> {
        Moe { router: None, experts: AnyExperts::new(form, 1, width, hidden, init) }
    }

    /// Tokens (T, d) to (T, d), without the residual, and how they were dispatched.
    ///
    /// # Errors
    /// Shapes that do not match.
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

    /// Updates the layer's running statistics after a training batch.
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

module!(Moe { router, experts });
