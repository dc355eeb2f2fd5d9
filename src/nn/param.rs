//! Parameters, and how all those of a model are reached: [`Module`].

use std::collections::HashMap;
use std::fmt::{Display, Write};
use std::sync::Arc;

use crate::engine::arr::{self, Arr};
use crate::engine::kernels::elem::Elem;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::tape::{Tape, Var};
use crate::engine::watch::ParamId;

/// An array that training changes. A clone is a parameter of its own, with its own gradient.
#[derive(Debug)]
pub struct Param<F> {
    /// Its current value.
    pub value: Arr<F>,
    /// Whether weight decay applies (not to biases and norms).
    pub decays: bool,
    id: ParamId,
}

impl<F> Clone for Param<F> {
    fn clone(&self) -> Self {
        Param { value: self.value.clone(), decays: self.decays, id: ParamId::unique() }
    }
}

impl<F: Elem> Param<F> {
    /// A bias or a norm's gain: one value everywhere, no weight decay.
    pub fn full(shape: &[usize], value: f64) -> Param<F> {
        Param { value: arr::full(shape, F::of(value)), decays: false, id: ParamId::unique() }
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
        Param { value, decays: true, id: ParamId::unique() }
    }

    /// Its identity on a tape and among gradients.
    pub fn id(&self) -> ParamId {
        self.id
    }

    /// The parameter as a variable on `tape`.
    pub fn on<'t>(&self, tape: &'t Tape<F>) -> Var<'t, F> {
        tape.parameter(self.id, &self.value)
    }

    /// Some rows of the parameter, ascending, as a variable on `tape`.
    pub fn rows_on<'t>(&self, tape: &'t Tape<F>, rows: Arc<[u32]>) -> Var<'t, F> {
        let width = self.value.shape().iter().skip(1).product();
        tape.parameter_rows(self.id, rows.clone(), || {
            let mut values = arr::uninit(&[&[rows.len()], &self.value.shape()[1..]].concat());
            let all = arr::data(&self.value);
            for (row, value) in rows.iter().zip(arr::data_mut(&mut values).chunks_exact_mut(width)) {
                value.copy_from_slice(&all[*row as usize * width..][..width]);
            }
            values
        })
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

/// What a model consists of: a parameter or a buffer.
pub enum Item<'a, F> {
    /// An array that the optimizer changes.
    Param(&'a Param<F>),
    /// A running statistic, which training updates without a gradient; NaN until it has a value.
    Buffer(&'a f64),
}

/// An [`Item`] to write to.
pub enum ItemMut<'a, F> {
    /// An array that the optimizer changes.
    Param(&'a mut Param<F>),
    /// A running statistic.
    Buffer(&'a mut f64),
}

/// A part of a model: a parameter, a buffer, or something made of parts. [`module!`](crate::module) implements it for
/// a struct from the list of its fields.
pub trait Module<F> {
    /// Shows every item, always in the same order.
    fn visit<'a>(&'a self, v: &mut Visitor<'_, Item<'a, F>>);

    /// As [`Module::visit`], to write to the items.
    fn visit_mut<'a>(&'a mut self, v: &mut Visitor<'_, ItemMut<'a, F>>);

    /// All items by name, such as `layers.0.experts.w1`.
    fn items(&self) -> Vec<(String, Item<'_, F>)> {
        let mut all = Vec::new();
        self.visit(&mut Visitor::new(&mut |name, item| all.push((name.to_string(), item))));
        all
    }

    /// As [`Module::items`], to write to them.
    fn items_mut(&mut self) -> Vec<(String, ItemMut<'_, F>)> {
        let mut all = Vec::new();
        self.visit_mut(&mut Visitor::new(&mut |name, item| all.push((name.to_string(), item))));
        all
    }

    /// All parameters by name.
    fn parameters(&self) -> Vec<(String, &Param<F>)> {
        let mut all = Vec::new();
        self.visit(&mut Visitor::new(&mut |name, item| {
            if let Item::Param(param) = item {
                all.push((name.to_string(), param));
            }
        }));
        all
    }

    /// As [`Module::parameters`], to write to them.
    fn parameters_mut(&mut self) -> Vec<(String, &mut Param<F>)> {
        let mut all = Vec::new();
        self.visit_mut(&mut Visitor::new(&mut |name, item| {
            if let ItemMut::Param(param) = item {
                all.push((name.to_string(), param));
            }
        }));
        all
    }
}

/// The name of every parameter, for messages about a tape.
pub fn names<F>(module: &impl Module<F>) -> HashMap<ParamId, String> {
    module.parameters().into_iter().map(|(name, param)| (param.id, name)).collect()
}

/// A walk over a model's items that keeps the name of the part it is in.
pub struct Visitor<'v, I> {
    path: String,
    each: &'v mut dyn FnMut(&str, I),
}

impl<'v, I> Visitor<'v, I> {
    fn new(each: &'v mut dyn FnMut(&str, I)) -> Visitor<'v, I> {
        Visitor { path: String::with_capacity(64), each }
    }

    /// Walks over the part called `name`; the items of a part with an empty name belong to the part around it.
    pub fn part(&mut self, name: impl Display, walk: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        write!(self.path, "{}{name}", if length == 0 { "" } else { "." }).expect("strings grow");
        if self.path.ends_with('.') {
            self.path.pop();
        }
        walk(self);
        self.path.truncate(length);
    }

    fn show(&mut self, item: I) {
        (self.each)(&self.path, item);
    }
}

/// Implements [`Module`](crate::nn::Module) for a struct from its fields, in the order of their names in checkpoints;
/// those after the semicolon are not part of the model's state. A forgotten field does not compile. A field may have
/// another name in checkpoints (`biases as "bias"`), or none (`attention as ""`). For an enum, the variants that hold
/// one module each are listed.
///
/// ```
/// use dynamoe::nn::{Linear, Param};
///
/// struct Scaled<F> {
///     inner: Linear<F>,
///     factor: Param<F>,
///     verbose: bool,
/// }
/// dynamoe::module!(Scaled { inner, factor as "gain"; verbose });
///
/// struct Mlp {
///     hidden: Linear<f32>,
///     output: Linear<f32>,
/// }
/// dynamoe::module!(Mlp: f32 { hidden, output });
/// ```
#[macro_export]
macro_rules! module {
    ($name:ident { $($fields:tt)* }) => {
        impl<F: $crate::Elem> $crate::nn::Module<F> for $name<F> { $crate::module!(@struct $name F { $($fields)* }); }
    };
    ($name:ident: $f:ty { $($fields:tt)* }) => {
        impl $crate::nn::Module<$f> for $name { $crate::module!(@struct $name $f { $($fields)* }); }
    };
    (enum $name:ident { $($variant:ident $(as $part:literal)?),* $(,)? }) => {
        impl<F: $crate::Elem> $crate::nn::Module<F> for $name<F> {
            fn visit<'a>(&'a self, v: &mut $crate::nn::Visitor<'_, $crate::nn::Item<'a, F>>) {
                match self {
                    $($name::$variant(inner) => v.part(concat!($($part)?), |v| $crate::nn::Module::visit(inner, v)),)*
                }
            }
            fn visit_mut<'a>(&'a mut self, v: &mut $crate::nn::Visitor<'_, $crate::nn::ItemMut<'a, F>>) {
                match self {
                    $($name::$variant(inner) => {
                        v.part(concat!($($part)?), |v| $crate::nn::Module::visit_mut(inner, v));
                    })*
                }
            }
        }
    };
    (@struct $name:ident $f:ty {
        $($field:ident $(as $part:literal)?),* $(,)? $(; $($other:ident),* $(,)?)?
    }) => {
        #[allow(unused_variables, reason = "a module may have no state")]
        fn visit<'a>(&'a self, v: &mut $crate::nn::Visitor<'_, $crate::nn::Item<'a, $f>>) {
            let $name { $($field,)* $($($other: _,)*)? } = self;
            $(v.part($crate::module!(@name $field $($part)?), |v| $crate::nn::Module::visit($field, v));)*
        }
        #[allow(unused_variables, reason = "a module may have no state")]
        fn visit_mut<'a>(&'a mut self, v: &mut $crate::nn::Visitor<'_, $crate::nn::ItemMut<'a, $f>>) {
            let $name { $($field,)* $($($other: _,)*)? } = self;
            $(v.part($crate::module!(@name $field $($part)?), |v| $crate::nn::Module::visit_mut($field, v));)*
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $part:literal) => { $part };
}

impl<F> Module<F> for Param<F> {
    fn visit<'a>(&'a self, v: &mut Visitor<'_, Item<'a, F>>) {
        v.show(Item::Param(self));
    }
    fn visit_mut<'a>(&'a mut self, v: &mut Visitor<'_, ItemMut<'a, F>>) {
        v.show(ItemMut::Param(self));
    }
}

/// A buffer.
impl<F> Module<F> for f64 {
    fn visit<'a>(&'a self, v: &mut Visitor<'_, Item<'a, F>>) {
        v.show(Item::Buffer(self));
    }
    fn visit_mut<'a>(&'a mut self, v: &mut Visitor<'_, ItemMut<'a, F>>) {
        v.show(ItemMut::Buffer(self));
    }
}

impl<F, M: Module<F>> Module<F> for Option<M> {
    fn visit<'a>(&'a self, v: &mut Visitor<'_, Item<'a, F>>) {
        self.iter().for_each(|part| part.visit(v));
    }
    fn visit_mut<'a>(&'a mut self, v: &mut Visitor<'_, ItemMut<'a, F>>) {
        self.iter_mut().for_each(|part| part.visit_mut(v));
    }
}

/// Parts called 0, 1, 2 ...
impl<F, M: Module<F>> Module<F> for Vec<M> {
    fn visit<'a>(&'a self, v: &mut Visitor<'_, Item<'a, F>>) {
        self.iter().enumerate().for_each(|(i, part)| v.part(i, |v| part.visit(v)));
    }
    fn visit_mut<'a>(&'a mut self, v: &mut Visitor<'_, ItemMut<'a, F>>) {
        self.iter_mut().enumerate().for_each(|(i, part)| v.part(i, |v| part.visit_mut(v)));
    }
}

impl<F, M: Module<F> + ?Sized> Module<F> for Box<M> {
    fn visit<'a>(&'a self, v: &mut Visitor<'_, Item<'a, F>>) {
        (**self).visit(v);
    }
    fn visit_mut<'a>(&'a mut self, v: &mut Visitor<'_, ItemMut<'a, F>>) {
        (**self).visit_mut(v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Inner<F> {
        gain: Param<F>,
        means: Vec<f64>,
    }
    module!(Inner { gain, means as "mean" });

    struct Outer<F> {
        parts: Vec<Inner<F>>,
        flat: Inner<F>,
        absent: Option<Param<F>>,
        #[expect(dead_code, reason = "a field outside the state")]
        width: usize,
    }
    module!(Outer { parts, flat as "", absent; width });

    #[test]
    fn names_and_their_order_are_those_of_the_declaration() {
        let inner = Inner::<f32> { gain: Param::full(&[1], 1.0), means: vec![0.5, 1.5] };
        let mut outer = Outer { parts: vec![inner.clone(); 2], flat: inner, absent: None, width: 3 };
        let names: Vec<String> = outer.items().into_iter().map(|(name, _)| name).collect();
        let expected = ["parts.0.gain", "parts.0.mean.0", "parts.0.mean.1", "parts.1.gain", "parts.1.mean.0"];
        assert_eq!(names[..5], expected);
        assert_eq!(names[5..], ["parts.1.mean.1", "gain", "mean.0", "mean.1"]);
        assert_eq!(outer.items_mut().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
        assert_eq!(outer.parameters().len(), 3);
    }

    #[test]
    fn a_clone_is_a_parameter_of_its_own() {
        let a = Param::full(&[1], 2.0);
        let b = a.clone();
        let tape = Tape::new(crate::Mode::Train);
        let gradients = tape.backward(a.on(&tape) * a.on(&tape) * b.on(&tape)).unwrap();
        let gradient = |p: &Param<f64>| arr::data(gradients.parameter(p.id()).unwrap().values)[0];
        assert_eq!([gradient(&a), gradient(&b)], [8.0, 4.0]);
    }
}
