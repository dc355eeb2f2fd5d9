//! Every array of one training step, in the order of execution, and how two such steps differ.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use serde::Serialize;

use crate::engine::arr::{self, Arr};
use crate::engine::error::{Error, Result};
use crate::engine::tensors::{self, Tensor};
use crate::engine::watch::{Seen, Watch};
use crate::nn::param;
use crate::train::{Learner, State};

/// The arrays of a step in order, each with a description; then the model's running statistics.
pub struct Trace {
    arrays: Vec<(String, Arr<f32>)>,
    numbers: Vec<(String, f64)>,
}

/// A bit to flip, to show that [`super::replay`] and [`super::locate`] find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In which step, counted from 1.
    pub step: u64,
    /// In which array of the step, counted from 1 in the order of execution.
    pub array: usize,
    /// In which element, modulo their number.
    pub element: usize,
    /// Which bit, 0 to 31.
    pub bit: u32,
}

/// The first difference between two traces.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The array's number, counted from 1 in the order of execution.
    pub array: usize,
    /// How many arrays the step has.
    pub arrays: usize,
    /// Its pass, layer and operation.
    pub what: String,
    /// How many elements differ.
    pub differing: usize,
    /// How many there are.
    pub elements: usize,
    /// The largest difference in units in the last place; none if the array is missing or has another shape.
    pub ulps: Option<u64>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Difference { array, arrays, what, differing, elements, ulps } = self;
        write!(f, "array {array} of {arrays} ({what}): ")?;
        match ulps {
            Some(ulps) => write!(f, "{differing} of {elements} elements, by up to {ulps} ulp"),
            None => f.write_str("missing in one of the two, or of another shape"),
        }
    }
}

impl Fault {
    /// Flips the bit when the array comes up.
    pub fn watch(self) -> Watch<f32> {
        let seen = Cell::new(0);
        Rc::new(RefCell::new(move |_: Seen, array: &mut Arr<f32>| {
            seen.set(seen.get() + 1);
            if seen.get() == self.array && !array.is_empty() {
                let elements = arr::data_mut(array);
                let x = &mut elements[self.element % elements.len()];
                *x = f32::from_bits(x.to_bits() ^ (1 << self.bit));
            }
        }))
    }
}

impl Trace {
    /// Takes a step and records every array; if it fails with NaN or infinity, every array up to there.
    ///
    /// # Errors
    /// Those of training.
    pub fn record(learner: &mut Learner, fault: Option<Fault>) -> Result<Trace> {
        let names = param::names(&learner.model);
        let fault = fault.filter(|fault| fault.step == learner.steps() + 1).map(Fault::watch);
        let arrays = Rc::new(RefCell::new(Vec::new()));
        let record = {
            let arrays = Rc::clone(&arrays);
            move |seen: Seen, array: &mut Arr<f32>| {
                if let Some(fault) = &fault {
                    fault.borrow_mut()(seen, array);
                }
                arrays.borrow_mut().push((seen.describe(&names), array.clone()));
            }
        };
        match learner.step(Some(Rc::new(RefCell::new(record)))) {
            Ok(_) | Err(Error::NonFinite { .. }) => (),
            Err(other) => return Err(other),
        }
        Ok(Trace { arrays: arrays.take(), numbers: State::of(&learner.model, None).numbers })
    }

    /// Number of the first array that is called so and has a zero in it, and where that is.
    #[cfg(test)]
    pub(super) fn first_zero(&self, name: &str) -> (usize, usize) {
        let zero = |(i, (what, array)): (usize, &(String, Arr<f32>))| {
            let at = arr::data(array).iter().position(|v| v.to_bits() == 0)?;
            what.starts_with(name).then_some((i + 1, at))
        };
        self.arrays.iter().enumerate().find_map(zero).expect("some array has a zero")
    }

    /// How many arrays it has.
    pub fn len(&self) -> usize {
        self.arrays.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty()
    }

    /// The first array that differs, or that only one of the two has.
    pub fn first_difference(&self, other: &Trace) -> Option<Difference> {
        let count = |trace: &Trace| trace.arrays.len() + trace.numbers.len();
        let arrays = count(self).max(count(other));
        let found = |i: usize, what: &str, differing: usize, elements, ulps| {
            Some(Difference { array: i + 1, arrays, what: what.to_string(), differing, elements, ulps })
        };
        for i in 0..self.arrays.len().max(other.arrays.len()) {
            match (self.arrays.get(i), other.arrays.get(i)) {
                (Some((what, a)), Some((same, b))) if what == same && a.shape() == b.shape() => {
                    let distances = arr::data(a).iter().zip(arr::data(b)).filter_map(|(&a, &b)| apart(a, b));
                    let (differing, most) = distances.fold((0, 0), |(n, most), d| (n + 1, d.max(most)));
                    if differing > 0 {
                        return found(i, what, differing, a.len(), Some(most));
                    }
                }
                // Another array, or none: a different choice of experts changes shapes.
                (Some((what, a)), _) | (None, Some((what, a))) => {
                    return found(i, what, a.len(), a.len(), None);
                }
                (None, None) => (),
            }
        }
        for i in 0..self.numbers.len().max(other.numbers.len()) {
            let (a, b) = (self.numbers.get(i), other.numbers.get(i));
            let distance = match (a, b) {
                (Some((name, a)), Some((same, b))) if name == same => match apart64(*a, *b) {
                    None => continue,
                    distance => distance,
                },
                _ => None,
            };
            let name = a.or(b).map_or("", |(name, _)| name);
            return found(self.arrays.len() + i, &format!("buffer {name}"), 1, 1, distance);
        }
        None
    }

    /// Writes every array to a safetensors file, named by its number and description.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn write(&self, path: &Path) -> Result<()> {
        let arrays = self.arrays.iter().enumerate();
        let tensors: Vec<_> =
            arrays.map(|(i, (what, array))| (format!("{:06} {what}", i + 1), Tensor::f32(array))).collect();
        let numbers: Vec<_> = self.numbers.iter().map(|(name, v)| (name, v.to_bits())).collect();
        tensors::write(path, &tensors, serde_json::to_string(&numbers).expect("plain data"))
    }

    /// Reads what [`Trace::write`] wrote.
    ///
    /// # Errors
    /// A file that is missing, damaged or no trace.
    pub fn read(path: &Path) -> Result<Trace> {
        let no_trace =
            || Error::data(path, "not a usable trace; write it again with `dynamoe verify --trace`");
        let tensors::Content { tensors, header } = tensors::read(path, "trace")?;
        let numbers: Vec<(String, u64)> =
            header.and_then(|header| serde_json::from_str(&header).ok()).ok_or_else(no_trace)?;
        let numbers = numbers.into_iter().map(|(name, bits)| (name, f64::from_bits(bits))).collect();
        let arrays = tensors.into_iter().map(|(name, tensor)| {
            let (_, what) = name.split_once(' ').ok_or_else(no_trace)?;
            Ok((what.to_string(), tensor.to_f32().ok_or_else(no_trace)?))
        });
        Ok(Trace { arrays: arrays.collect::<Result<_>>()?, numbers })
    }
}

/// The distance of two numbers in units in the last place, at least 1; none if a digest does not distinguish them: equal
/// bits, or two NaNs.
fn apart(a: f32, b: f32) -> Option<u64> {
    let whole = |x: f32| ordered(i64::from(x.to_bits() as i32), i64::from(i32::MAX));
    let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    (!same).then(|| whole(a).abs_diff(whole(b)).max(1))
}

/// [`apart`] for f64.
fn apart64(a: f64, b: f64) -> Option<u64> {
    let whole = |x: f64| ordered(x.to_bits() as i64, i64::MAX);
    let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    (!same).then(|| whole(a).abs_diff(whole(b)).max(1))
}

/// Bits of a floating-point number as a whole number in its order; `most` is the largest of its width.
fn ordered(bits: i64, most: i64) -> i64 {
    if bits < 0 { -(bits & most) } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_in_units_in_the_last_place() {
        let next = f32::from_bits(1.0f32.to_bits() + 1);
        assert_eq!((apart(1.0, next), apart(next, 1.0), apart(1.0, 1.0)), (Some(1), Some(1), None));
        assert_eq!(apart(f32::from_bits(1), -f32::from_bits(1)), Some(2));
        // A digest distinguishes the two zeros, but not two NaNs.
        assert_eq!((apart(0.0, -0.0), apart64(0.0, -0.0)), (Some(1), Some(1)));
        assert_eq!((apart(0.0, f32::from_bits(3)), apart(f32::NAN, -f32::NAN)), (Some(3), None));
        assert!(apart(f32::NAN, 1.0).unwrap() > 1 << 20);
    }

    #[test]
    fn the_first_difference_is_found_counted_and_measured_also_from_files() {
        let array = |x: f32| arr::from_vec(&[3], vec![1.0, x, x]);
        let trace = |x: f32, number: f64| Trace {
            arrays: vec![("a".into(), array(1.0)), ("b".into(), array(x)), ("c".into(), array(9.0 * x))],
            numbers: vec![("n".into(), number)],
        };
        let folder = tempfile::tempdir().unwrap();
        let through_file = |trace: Trace| {
            let path = folder.path().join("t.safetensors");
            trace.write(&path).unwrap();
            Trace::read(&path).unwrap()
        };
        let (one, next) = (trace(1.0, 0.5), through_file(trace(f32::from_bits(1.0f32.to_bits() + 2), 0.5)));
        let difference = one.first_difference(&next).unwrap();
        assert_eq!(
            (difference.to_string(), difference.array),
            ("array 2 of 4 (b): 2 of 3 elements, by up to 2 ulp".into(), 2)
        );
        assert_eq!(one.first_difference(&through_file(trace(1.0, 0.5))), None);
        let number = one.first_difference(&trace(1.0, 0.5 + f64::EPSILON)).unwrap();
        assert_eq!((number.what.as_str(), number.ulps), ("buffer n", Some(2)));
        assert_eq!(number.to_string(), "array 4 of 4 (buffer n): 1 of 1 elements, by up to 2 ulp");
        // One array less, on either side.
        let mut short = trace(1.0, 0.5);
        short.arrays.pop();
        for difference in [one.first_difference(&short), short.first_difference(&one)] {
            let text = difference.unwrap().to_string();
            assert_eq!(text, "array 3 of 4 (c): missing in one of the two, or of another shape");
        }
    }
}
