//! The experts of one layer.

use std::sync::Arc;

use super::param::{Init, Param};
use crate::engine::error::Result;
use crate::engine::kernels::{elem::Elem, routes::Routes};
use crate::engine::ops::fused::{experts as op, gated_experts};
use crate::engine::tape::Var;
use crate::module;

/// E experts `relu(x W1 + b1) W2 + b2`. Their parameters are stacked, so that a layer has four parameters
/// however many experts it has.
#[derive(Clone, Debug)]
pub struct Experts<F> {
    /// (E, d, h).
    pub w1: Param<F>,
    /// (E, h).
    pub b1: Param<F>,
    /// (E, h, d).
    pub w2: Param<F>,
    /// (E, d).
    pub b2: Param<F>,
}

impl<F: Elem> Experts<F> {
    /// `count` experts of hidden width `hidden` for tokens of width `width`.
    pub fn new(count: usize, width: usize, hidden: usize, init: &mut Init) -> Experts<F> {
        Experts {
            w1: Param::uniform(&[count, width, hidden], width, init),
            b1: Param::full(&[count, hidden], 0.0),
            w2: Param::uniform(&[count, hidden, width], hidden, init),
            b2: Param::full(&[count, width], 0.0),
        }
    }

    /// The weighted outputs of the chosen experts: tokens (T, d), gates (T, E) to (T, d).
    ///
    /// # Errors
    /// Shapes that do not match.
    #[track_caller]
    pub fn forward<'t>(&self, x: Var<'t, F>, gates: Var<'t, F>, routes: Arc<Routes>) -> Result<Var<'t, F>> {
        let tape = x.tape();
        let parameters = [&self.w1, &self.b1, &self.w2, &self.b2].map(|p| p.on(tape));
        let [w1, b1, w2, b2] = parameters;
        tape.apply_fused(op::Experts { routes }, [x, gates, w1, b1, w2, b2])
    }
}

/// What an expert computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// [`Experts`].
    Relu,
    /// [`GatedExperts`].
    Gated,
}

/// The experts of one layer, of either form.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each layer")]
pub enum AnyExperts<F> {
    /// With relu and biases.
    Relu(Experts<F>),
    /// Gated, without biases.
    Gated(GatedExperts<F>),
}

impl<F: Elem> AnyExperts<F> {
    /// `count` experts of hidden width `hidden` for tokens of width `width`.
    pub fn new(form: Form, count: usize, width: usize, hidden: usize, init: &mut Init) -> AnyExperts<F> {
        match form {
            Form::Relu => AnyExperts::Relu(Experts::new(count, width, hidden, init)),
            Form::Gated => AnyExperts::Gated(GatedExperts::new(count, width, hidden, init)),
        }
    }

    /// The first weights of each expert, (E, d, ..).
    pub fn first_weights(&self) -> &Param<F> {
        match self {
            AnyExperts::Relu(experts) => &experts.w1,
            AnyExperts::Gated(experts) => &experts.w1,
        }
    }

    /// As [`Experts::forward`].
    ///
    /// # Errors
    /// Shapes that do not match.
    #[track_caller]
    pub fn forward<'t>(&self, x: Var<'t, F>, gates: Var<'t, F>, routes: Arc<Routes>) -> Result<Var<'t, F>> {
        match self {
            AnyExperts::Relu(experts) => experts.forward(x, gates, routes),
            AnyExperts::Gated(experts) => experts.forward(x, gates, routes),
        }
    }
}

module!(
    enum AnyExperts {
        Relu,
        Gated,
    }
);

module!(Experts { w1, b1, w2, b2 });

/// E experts `(silu(x G) * (x U)) W2` without biases (SwiGLU), G and U side by side in `w1`.
#[derive(Clone, Debug)]
pub struct GatedExperts<F> {
    /// (E, d, 2h).
    pub w1: Param<F>,
    /// (E, h, d).
    pub w2: Param<F>,
}

impl<F: Elem> GatedExperts<F> {
    /// `count` experts of hidden width `hidden` for tokens of width `width`.
    pub fn new(count: usize, width: usize, hidden: usize, init: &mut Init) -> GatedExperts<F> {
        GatedExperts {
            w1: Param::uniform(&[count, width, 2 * hidden], width, init),
            w2: Param::uniform(&[count, hidden, width], hidden, init),
        }
    }

    /// As [`Experts::forward`].
    ///
    /// # Errors
    /// Shapes that do not match.
    #[track_caller]
    pub fn forward<'t>(&self, x: Var<'t, F>, gates: Var<'t, F>, routes: Arc<Routes>) -> Result<Var<'t, F>> {
        let tape = x.tape();
        let [w1, w2] = [&self.w1, &self.w2].map(|p| p.on(tape));
        tape.apply_fused(gated_experts::GatedExperts { routes }, [x, gates, w1, w2])
    }
}

module!(GatedExperts { w1, w2 });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Mode, Tape, arr};

    #[test]
    fn one_gated_expert_is_its_formula() {
        let experts = GatedExperts::<f64>::new(1, 3, 2, &mut Init::new(1));
        let tape = Tape::new(Mode::Infer);
        let (x, gates) = (crate::engine::gradcheck::random(&[4, 3], 1), arr::full(&[4, 1], 0.5));
        let routes = Arc::new(Routes::new(&[true; 4], 1));
        let (x, gates) = (tape.constant(x), tape.constant(gates));
        let y = experts.forward(x, gates, routes).unwrap();
        let w1 = experts.w1.on(&tape).reshape(&[3, 4]);
        let hidden = x.matmul(w1.slice(1, 0..2)).silu().mul(x.matmul(w1.slice(1, 2..4)));
        let plain = hidden.matmul(experts.w2.on(&tape).reshape(&[2, 3])).scale(0.5);
        assert!(arr::data(&y.sub(plain).value()).iter().all(|d| d.abs() < 1e-15));
        let bound = |param: &Param<f64>| arr::data(&param.value).iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        assert!(bound(&experts.w1) <= 1.0 / 3f64.sqrt() && bound(&experts.w2) <= 1.0 / 2f64.sqrt());
    }
}
