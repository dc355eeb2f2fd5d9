//! A tape that shows every array to a watcher: see `engine/watch.rs`.

use std::cell::{Cell, RefCell};

use super::{Mode, Node, Tape};
use crate::engine::arr::Arr;
use crate::engine::kernels::elem::Elem;
use crate::engine::watch::{ParamId, Place, Seen, Watch};

/// Who watches a tape, and the part of the network that is being recorded.
pub struct Watcher<F> {
    place: Cell<Place>,
    pub(super) watch: RefCell<Option<Watch<F>>>,
}

/// What a node is called.
#[derive(Clone, Copy)]
pub struct Label {
    /// Name of the operation, or the kind of input.
    pub(super) name: &'static str,
    place: Place,
    parameter: Option<ParamId>,
}

impl From<&'static str> for Label {
    fn from(name: &'static str) -> Label {
        Label { name, place: Place("input", None), parameter: None }
    }
}

impl From<ParamId> for Label {
    fn from(id: ParamId) -> Label {
        Label { parameter: Some(id), ..Label::from("parameter") }
    }
}

impl<F: Elem> Tape<F> {
    /// An empty tape that shows every value and gradient to `watch`.
    pub fn watched(mode: Mode, watch: Option<Watch<F>>) -> Tape<F> {
        /// Most graphs have fewer nodes.
        const NODES: usize = 256;
        let watcher = Watcher { place: Cell::new(Place("input", None)), watch: RefCell::new(watch) };
        let nodes = RefCell::new(Vec::with_capacity(NODES));
        Tape { nodes, mode, parameters: RefCell::default(), watcher }
    }

    /// Says which part of the network the following operations belong to. Only watchers use it.
    pub fn enter(&self, part: &'static str, number: Option<usize>) {
        self.watcher.place.set(Place(part, number));
    }

    /// Shows the value of a new node; its label with the current place.
    pub(super) fn watch_value(&self, label: Label, value: &mut Arr<F>) -> Label {
        let label = Label { place: self.watcher.place.get(), ..label };
        if let Some(watch) = &*self.watcher.watch.borrow() {
            let Label { name: op, place, parameter } = label;
            watch.borrow_mut()(Seen::Value { place, op, parameter }, value);
        }
        label
    }

    /// Shows the gradient that the operation of `node` handed back to `input`.
    pub(super) fn watch_gradient(&self, node: &Node<F>, input: &Node<F>, gradient: &mut Arr<F>) {
        if let Some(watch) = &*self.watcher.watch.borrow() {
            let (Label { name: op, place, .. }, Label { name: input, parameter, .. }) =
                (node.label, input.label);
            watch.borrow_mut()(Seen::Gradient { place, op, input, parameter }, gradient);
        }
    }
}
