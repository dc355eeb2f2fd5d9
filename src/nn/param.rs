//! Parameters, and the one way to reach all of them: a visitor.

use std::fmt::{Display, Write};
use std::sync::Arc;

use crate::engine::arr::{self, Arr};
use crate::engine::kernels::elem::Elem;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::tape::{Tape, Var};

/// An array that training changes.
#[derive(Clone, Debug)]
pub struct Param<F> {
    /// Its current value.
    pub value: Arr<F>,
    /// Whether weight decay applies (not to biases and norms).
    pub decays: bool,
    /// Its number in the model, given by [`number`].
    slot: usize,
}

impl<F: Elem> Param<F> {
    /// A bias or a norm's gain: one value everywhere, no weight decay.
    pub fn full(shape: &[usize], value: f64) -> Param<F> {
        Param { value: arr::full(shape, F::of(value)), decays: false, slot: usize::MAX }
    }

    /// A weight that starts at zero, with weight decay.
    pub fn zeros(shape: &[usize]) -> Param<F> {
        Param { decays: true, ..Param::full(shape, 0.0) }
    }

    /// A weight, uniform in `[-1/sqrt(fan_in), 1/sqrt(fan_in))`, with weight decay.
    pub fn uniform(shape: &[usize], fan_in: usize, init: &mut Init) -> Param<F> {
        let mut numbers = vec![0.0f32; shape.iter().product()];
        let bound = 1.0 / (fan_in as f32).sqrt();
        Stream::new(init.seed, Purpose::Init, init.next, 0).uniform(&mut numbers, bound);
        init.next += 1;
        let value = arr::from_vec(shape, numbers.into_iter().map(|v| F::of(f64::from(v))).collect());
        Param { value, decays: true, slot: usize::MAX }
    }

    /// Its number in the model.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Some rows of the parameter, by rising number, as a variable on `tape`.
    pub fn rows_on<'t>(&self, tape: &'t Tape<F>, rows: Arc<[u32]>) -> Var<'t, F> {
        let width = self.value.shape().iter().skip(1).product();
        tape.parameter_rows(self.slot, rows.clone(), || {
            let mut values = arr::fresh(&[&[rows.len()], &self.value.shape()[1..]].concat());
            let all = arr::data(&self.value);
            for (row, value) in rows.iter().zip(arr::data_mut(&mut values).chunks_exact_mut(width)) {
                value.copy_from_slice(&all[*row as usize * width..][..width]);
            }
            values
        })
    }

    /// The parameter as a variable on `tape`.
    pub fn on<'t>(&self, tape: &'t Tape<F>) -> Var<'t, F> {
        assert_ne!(self.slot, usize::MAX, "nn::param::number was not called on this model");
        tape.parameter(self.slot, &self.value)
    }
}

/// The random numbers of initial parameters: each parameter has a stream of its own.
#[derive(Clone, Debug)]
pub struct Init {
    seed: u64,
    next: u64,
}

impl Init {
    /// The streams of a run's seed.
    pub fn new(seed: u64) -> Init {
        Init { seed, next: 0 }
    }
}

/// What a visitor meets.
pub enum Item<'a, F> {
    /// Something the optimizer changes.
    Param(&'a mut Param<F>),
    /// A running number that training updates by other means; NaN until it has a value.
    State(&'a mut f64),
}

/// Walks over a model's parameters in a fixed order with their full names, such as `layers.0.experts.w1`.
pub struct Visitor<'v, F> {
    /// The name of the part that the walk is in.
    path: String,
    each: &'v mut dyn FnMut(&str, Item<'_, F>),
}

/// A part of a model. Implementations take `self` apart without `..`, so that a forgotten field does not
/// compile.
pub trait Module<F> {
    /// Shows every parameter and every part to `v`, always in the same order.
    fn visit(&mut self, v: &mut Visitor<'_, F>);
}

impl<F> Visitor<'_, F> {
    /// Runs `work` with `name` at the end of the path.
    fn within(&mut self, name: impl Display, work: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        let dot = if self.path.is_empty() { "" } else { "." };
        write!(self.path, "{dot}{name}").expect("strings grow");
        work(self);
        self.path.truncate(length);
    }

    /// Shows a parameter.
    pub fn param(&mut self, name: &str, param: &mut Param<F>) {
        self.within(name, |v| (v.each)(&v.path, Item::Param(param)));
    }

    /// Shows a running number.
    pub fn state(&mut self, name: &str, state: &mut f64) {
        self.within(name, |v| (v.each)(&v.path, Item::State(state)));
    }

    /// Shows running numbers of one kind, numbered from 0.
    pub fn states(&mut self, name: &str, states: &mut [f64]) {
        for (i, state) in states.iter_mut().enumerate() {
            self.within(format_args!("{name}.{i}"), |v| (v.each)(&v.path, Item::State(state)));
        }
    }

    /// Shows a part of the model.
    pub fn child(&mut self, name: &str, child: &mut (impl Module<F> + ?Sized)) {
        self.within(name, |v| child.visit(v));
    }

    /// Shows parts of one kind, numbered from 0.
    pub fn children(&mut self, name: &str, children: &mut [impl Module<F>]) {
        for (i, child) in children.iter_mut().enumerate() {
            self.within(format_args!("{name}.{i}"), |v| child.visit(v));
        }
    }
}

/// Calls `each` with every parameter and running number of `module`, in order.
pub fn for_each<F>(module: &mut (impl Module<F> + ?Sized), mut each: impl FnMut(&str, Item<'_, F>)) {
    module.visit(&mut Visitor { path: String::with_capacity(64), each: &mut each });
}

/// Calls `each` with every parameter of `module`, in order.
pub fn for_each_param<F>(module: &mut (impl Module<F> + ?Sized), mut each: impl FnMut(&str, &mut Param<F>)) {
    for_each(module, |name, item| {
        if let Item::Param(param) = item {
            each(name, param);
        }
    });
}

/// Numbers the parameters of a finished model.
pub fn number<F>(module: &mut (impl Module<F> + ?Sized)) {
    let mut next = 0;
    for_each_param(module, |_, param| {
        param.slot = next;
        next += 1;
    });
}
