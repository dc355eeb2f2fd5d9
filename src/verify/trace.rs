//! Every array of one training step, in the order of execution, and how two such steps differ.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::str::FromStr;

use serde::Serialize;

use crate::arr::{self, Arr};
use crate::error::{Error, Result};
use crate::nn::param::for_each_param;
use crate::tensors::{self, Tensor};
use crate::train::{Learner, State};
use crate::watch::{Seen, Watch};

/// The arrays of a step in order, each with what it is; then the model's running numbers.
pub struct Trace {
    arrays: Vec<(String, Arr<f32>)>,
    numbers: Vec<(String, f64)>,
}

/// A bit to turn around: a fault to be found, for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In which step, counted from 1.
    pub step: u64,
    /// In which array of the step, counted from 1 in the order of execution.
    pub array: usize,
    /// In which element; counted again from 0 past the last.
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
    /// What it is: the pass, the layer, the operation.
    pub what: String,
    /// How many elements differ.
    pub differing: usize,
    /// How many there are.
    pub elements: usize,
    /// By how many units in the last place they differ at most.
    pub ulps: u64,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Difference { array, arrays, what, differing, elements, ulps } = self;
        write!(
            f,
            "array {array} of {arrays} ({what}): {differing} of {elements} elements, by up to {ulps} ulp"
        )
    }
}

impl Fault {
    /// Turns the bit around when the array comes up.
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

/// `STEP:ARRAY:ELEMENT:BIT`.
impl FromStr for Fault {
    type Err = String;
    fn from_str(text: &str) -> Result<Fault, String> {
        let numbers: Option<Vec<usize>> = text.split(':').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[step, array, element, bit @ 0..32]) if step > 0 && array > 0 => {
                Ok(Fault { step: step as u64, array, element, bit: bit as u32 })
            }
            _ => Err("expected STEP:ARRAY:ELEMENT:BIT".into()),
        }
    }
}

impl Trace {
    /// Takes a step and writes down everything in it; where it breaks off with NaN or infinity, everything up
    /// to there.
    ///
    /// # Errors
    /// Those of training.
    pub fn record(learner: &mut Learner, fault: Option<Fault>) -> Result<Trace> {
        let mut names = Vec::new();
        for_each_param(&mut learner.model, |name, _| names.push(name.to_string()));
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
        Ok(Trace { arrays: arrays.take(), numbers: State::of(&mut learner.model, None).numbers })
    }

    /// How many arrays it has.
    pub fn len(&self) -> usize {
        self.arrays.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty()
    }

    /// The first array in which `other` differs, or that it has not.
    pub fn first_difference(&self, other: &Trace) -> Option<Difference> {
        let arrays = self.arrays.len();
        let found = |i: usize, what: &str, (differing, ulps): (usize, u64), elements| Difference {
            array: i + 1,
            arrays,
            what: what.to_string(),
            differing,
            elements,
            ulps,
        };
        for (i, (what, a)) in self.arrays.iter().enumerate() {
            match other.arrays.get(i) {
                Some((other_what, b)) if what == other_what && a.shape() == b.shape() => {
                    let ulps = arr::data(a).iter().zip(arr::data(b)).map(|(&a, &b)| ulps(a, b));
                    let (differing, most) = count(ulps);
                    if differing > 0 {
                        return Some(found(i, what, (differing, most), a.len()));
                    }
                }
                // Another array altogether: as when a choice of experts changed a shape.
                _ => return Some(found(i, what, (a.len(), u64::MAX), a.len())),
            }
        }
        for (i, ((name, a), (_, b))) in self.numbers.iter().zip(&other.numbers).enumerate() {
            let distance =
                ordered(a.to_bits() as i64, i64::MAX).abs_diff(ordered(b.to_bits() as i64, i64::MAX));
            if distance > 0 && !(a.is_nan() && b.is_nan()) {
                return Some(found(arrays + i, &format!("running number {name}"), (1, distance), 1));
            }
        }
        None
    }

    /// Writes every array into a safetensors file, under its number and what it is.
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
            || Error::data(path, "not a usable trace; write it anew with `dynamoe verify --trace`");
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

/// How many distances are not 0, and the largest.
fn count(ulps: impl Iterator<Item = u64>) -> (usize, u64) {
    ulps.filter(|&d| d > 0).fold((0, 0), |(count, most), d| (count + 1, most.max(d)))
}

/// Bits of a floating-point number as a whole number in its order; `most` is the largest of its width.
fn ordered(bits: i64, most: i64) -> i64 {
    if bits < 0 { -(bits & most) } else { bits }
}

/// How many numbers apart two are; 0 for two NaNs, and for 0 and -0.
fn ulps(a: f32, b: f32) -> u64 {
    let whole = |x: f32| ordered(i64::from(x.to_bits() as i32), i64::from(i32::MAX));
    if a.is_nan() && b.is_nan() { 0 } else { whole(a).abs_diff(whole(b)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_in_units_in_the_last_place() {
        let next = f32::from_bits(1.0f32.to_bits() + 1);
        assert_eq!((ulps(1.0, next), ulps(next, 1.0), ulps(1.0, 1.0)), (1, 1, 0));
        assert_eq!(ulps(f32::from_bits(1), -f32::from_bits(1)), 2);
        assert_eq!((ulps(0.0, f32::from_bits(3)), ulps(f32::NAN, -f32::NAN)), (3, 0));
        assert!(ulps(f32::NAN, 1.0) > 1 << 20);
    }

    #[test]
    fn faults_are_read_and_refused() {
        assert_eq!("3:14:15:9".parse(), Ok(Fault { step: 3, array: 14, element: 15, bit: 9 }));
        for text in ["", "1:2:3", "1:2:3:32", "0:1:0:0", "1:0:0:0", "1:2:3:4:5", "a:b:c:d"] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
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
            ("array 2 of 3 (b): 2 of 3 elements, by up to 2 ulp".into(), 2)
        );
        assert_eq!(one.first_difference(&through_file(trace(1.0, 0.5))), None);
        let number = one.first_difference(&trace(1.0, 0.5 + f64::EPSILON)).unwrap();
        assert_eq!((number.what.as_str(), number.ulps), ("running number n", 2));
    }
}
