//! One expert for every token: nothing to choose, no parameters. The floor that routing is measured against.
//!
//! `y = E_1(x)`. Layers get one expert each, whatever the schedule says, as wide as the experts of a routed
//! network: a plain network at the price of top-1. (The `mlp` network instead is as wide as makes it equal to
//! the routed one.) It has no losses.

use std::marker::PhantomData;

use super::{Cost, Layer, Router, Routing, Rule, Settings};
use crate::engine::arr;
use crate::engine::error::Result;
use crate::engine::kernels::elem::Elem;
use crate::engine::tape::Var;
use crate::nn::Phase;
use crate::nn::param::{Init, Module, Visitor};

/// A router that always takes the first expert.
#[derive(Clone, Debug)]
pub struct Single<F> {
    experts: usize,
    number: PhantomData<F>,
}

impl<F: Elem> Router<F> for Single<F> {
    fn rule(_: &Settings) -> Rule {
        Rule::of_each_token("single: one expert per layer, for every token".into())
    }

    fn experts(_: usize) -> usize {
        1
    }

    fn cost(_: &Settings, _: Layer) -> Cost {
        Cost { k: 1.0, parameters: 0, flops: 0.0 }
    }

    fn new(_: &Settings, layer: Layer, _: &mut Init) -> Single<F> {
        Single { experts: layer.experts, number: PhantomData }
    }

    fn route<'t>(&self, x: Var<'t, F>, _: Phase) -> Result<Routing<'t, F>> {
        let mut gates = arr::zeros(&[x.shape()[0], self.experts]);
        arr::data_mut(&mut gates).iter_mut().step_by(self.experts).for_each(|gate| *gate = F::one());
        let mask: Vec<bool> = arr::data(&gates).iter().map(|&gate| gate > F::zero()).collect();
        Ok(Routing::new(x.tape().constant(gates.clone()), &mask, gates))
    }
}

impl<F: Elem> Module<F> for Single<F> {
    fn visit(&mut self, _: &mut Visitor<'_, F>) {
        let Single { experts: _, number: PhantomData } = self;
    }
}
