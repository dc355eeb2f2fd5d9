//! Watching a computation: a watcher is shown every array of a step, in order, with its place in the network.
//!
//! Training has no watcher. Verification watches two runs and compares them; `dynamoe step` records what it is shown. A
//! watcher may also change an array: that is how tests inject a fault.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::arr::Arr;

/// A function that is shown every array, in the order of execution.
pub type Watch<F> = Rc<RefCell<dyn FnMut(Seen, &mut Arr<F>)>>;

/// The identity of a parameter. It finds the parameter on a tape, and its gradient after the backward pass; no result
/// depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamId(u64);

impl ParamId {
    /// An id that no other parameter of this process has.
    pub fn unique() -> ParamId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        ParamId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What an array is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The output of operation `op`.
    Value {
        /// Where in the network.
        place: Place,
        /// Name of the operation; `constant`, `variable` or `parameter` for inputs.
        op: &'static str,
        /// The parameter, if it is one.
        parameter: Option<ParamId>,
    },
    /// The gradient of an input of operation `op`, summed up to and including this operation.
    Gradient {
        /// Where in the network the operation is.
        place: Place,
        /// Name of the operation.
        op: &'static str,
        /// Name of the operation that the input came from.
        input: &'static str,
        /// The parameter, if the input is one.
        parameter: Option<ParamId>,
    },
    /// The global norm of all gradients, one element; changing it has no effect.
    GradientNorm,
    /// A result of the optimizer.
    Update {
        /// The parameter.
        parameter: ParamId,
        /// Which of its arrays.
        part: Part,
    },
}

/// The arrays that an optimizer keeps for a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The parameter itself.
    Value,
    /// Its first moment.
    First,
    /// Its second moment.
    Second,
}

/// A part of a network, such as `layers.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub &'static str, pub Option<usize>);

impl Display for Place {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self.1 {
            Some(number) => write!(f, "{}.{number}", self.0),
            None => f.write_str(self.0),
        }
    }
}

impl Seen {
    /// In words, given the names of the model's parameters.
    pub fn describe(&self, names: &HashMap<ParamId, String>) -> String {
        match *self {
            Seen::Value { place, parameter: None, op } => format!("forward, {place}: {op}"),
            Seen::Value { place, parameter: Some(p), .. } => {
                format!("forward, {place}: parameter {}", names[&p])
            }
            Seen::Gradient { place, op, input, parameter: None } => {
                format!("backward, {place}: gradient of {op} for its input from {input}")
            }
            Seen::Gradient { place, op, parameter: Some(p), .. } => {
                format!("backward, {place}: gradient of {op} for parameter {}", names[&p])
            }
            Seen::GradientNorm => "backward: norm of all gradients".into(),
            Seen::Update { parameter, part } => {
                let part = match part {
                    Part::Value => "parameter",
                    Part::First => "first moment of",
                    Part::Second => "second moment of",
                };
                format!("optimizer: {part} {}", names[&parameter])
            }
        }
    }
}
