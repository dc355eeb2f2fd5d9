//! One expert for every token: nothing to choose, no parameters. The lower bound for the cost of routing.
//!
//! `y = E_1(x)`. Layers get one expert each, whatever the schedule says, as wide as the experts of a routed
//! network: a plain network at the price of top-1. (The `mlp` network instead matches the routed network's
//! parameters or FLOPs.) It has no losses.

use std::marker::PhantomData;

use super::prelude::*;

settings! {}

impl RouterSettings for Settings {
    type Router<F: Elem> = Single<F>;

    const ABOUT: About = About { chooses: "one expert per layer, nothing to choose", source: "" };
    const LOSSES: Option<Weights> = None;

    fn rule(&self) -> Rule {
        Rule::of_each_token("single: one expert per layer, for every token".into())
    }

    fn experts(&self, _: usize) -> usize {
        1
    }

    fn cost(&self, _: Layer) -> Cost {
        Cost { k: 1.0, parameters: 0, flops: 0.0 }
    }

    fn build<F: Elem>(&self, layer: Layer, _: Weights, _: &mut Init) -> Single<F> {
        Single { experts: layer.experts, number: PhantomData }
    }

    #[cfg(test)]
    fn expect(&self) -> Expect {
        Expect { tied: [1; 3], ..Expect::default() }
    }
}

/// A router that always chooses the first expert.
#[derive(Clone, Debug)]
pub struct Single<F> {
    experts: usize,
    number: PhantomData<F>,
}

impl<F: Elem> Router<F> for Single<F> {
    fn route<'t>(&self, x: Var<'t, F>, _: Phase) -> Result<Routing<'t, F>> {
        let mut gates = arr::zeros(&[x.shape()[0], self.experts]);
        arr::data_mut(&mut gates).iter_mut().step_by(self.experts).for_each(|gate| *gate = F::one());
        let mask: Vec<bool> = arr::data(&gates).iter().map(|&gate| gate > F::zero()).collect();
        Ok(Routing::new(x.tape().constant(gates.clone()), &mask, gates))
    }
}

module!(Single { ; experts, number });
