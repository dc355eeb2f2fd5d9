//! Proving that a run can be reproduced: replays it from its manifest and finds the first difference.
//!
//! [`replay`] trains again and compares digests with the recorded ones. Where one differs, [`locate`] goes back
//! to the last that did not, lets a reference and the run under test take the same steps side by side, and
//! names the first array, in the order of execution, in which they part.

mod compare;
mod trace;

pub use compare::{Comparison, compare, trace_path};
pub use trace::{Difference, Fault, Trace};

use crate::arr::Arr;
use crate::data::{Images, Standardize};
use crate::error::Result;
use crate::kernels::{par, simd};
use crate::nn::{Model, Phase};
use crate::tape::{Mode, Tape};
use crate::train::manifest::Link;
use crate::train::{Learner, State, evaluate};

/// What must not matter: how many threads, and which family of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Condition {
    /// Threads.
    pub threads: usize,
    /// One of [`simd::available`].
    pub profile: &'static str,
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let s = if self.threads == 1 { "" } else { "s" };
        write!(f, "{} thread{s}, {}", self.threads, self.profile)
    }
}

impl Condition {
    /// Runs `work` under this condition.
    ///
    /// # Errors
    /// A profile that this processor lacks, more threads than the system gives, and those of `work`.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        let before = simd::name();
        simd::force(self.profile)?;
        let result = par::try_with_threads(self.threads, work);
        simd::force(before)?;
        result.unwrap_or_else(|| Err(par::refused(self.threads)))
    }
}

/// Where a replay came to.
pub enum Replay<'a> {
    /// Every recorded digest up to here came out again.
    Same(Learner<'a>),
    /// One did not.
    Differs {
        /// Where it was recorded.
        link: Link,
        /// What came out here.
        found: String,
        /// The training at the last digest that agreed; none if already the first differs.
        agreed: Option<Learner<'a>>,
    },
}

/// Takes `steps` steps from the start, under the current condition, and compares each digest in `chain` on the
/// way. `fault` falsifies one array; `on_step` is told the number of steps taken.
///
/// # Errors
/// NaN or infinity in training.
pub fn replay<'a>(
    mut learner: Learner<'a>,
    chain: &[Link],
    steps: u64,
    fault: Option<Fault>,
    on_step: &mut (dyn FnMut(u64) + Send),
) -> Result<Replay<'a>> {
    let mut links = chain.iter().filter(|link| link.step <= steps).peekable();
    let mut agreed = None;
    loop {
        if let Some(link) = links.next_if(|link| link.step == learner.steps()) {
            let found = learner.state().digest();
            if found != link.digest {
                return Ok(Replay::Differs { link: link.clone(), found, agreed });
            }
            agreed = Some(learner.clone());
        }
        if learner.steps() >= steps {
            return Ok(Replay::Same(learner));
        }
        take_step(&mut learner, fault)?;
        on_step(learner.steps());
    }
}

/// One step, with the fault if it falls in it.
fn take_step(learner: &mut Learner, fault: Option<Fault>) -> Result<()> {
    let due = fault.filter(|fault| fault.step == learner.steps() + 1);
    learner.step(due.map(Fault::watch)).map(drop)
}

/// The first step, and in it the first array, in which two conditions part.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Located {
    /// Counted from 1.
    pub step: u64,
    /// The first difference in it.
    #[serde(flatten)]
    pub difference: Difference,
}

/// Lets two conditions take the same steps from `start` until step `until`, and finds where they part;
/// `fault` falsifies the second. Also says which digest the reference had at the end, or where they parted.
///
/// # Errors
/// NaN or infinity in training.
pub fn locate(
    start: Learner,
    until: u64,
    reference: Condition,
    tested: Condition,
    fault: Option<Fault>,
) -> Result<Option<Located>> {
    let (mut a, mut b) = (start.clone(), start);
    while a.steps() < until {
        let before = (a.clone(), b.clone());
        reference.run(|| take_step(&mut a, None))?;
        tested.run(|| take_step(&mut b, fault))?;
        if a.state().digest() == b.state().digest() {
            continue;
        }
        let (mut a, mut b) = before;
        let step = a.steps() + 1;
        let difference = {
            let expected = reference.run(|| Trace::record(&mut a, None))?;
            let found = tested.run(|| Trace::record(&mut b, fault))?;
            expected.first_difference(&found)
        };
        return Ok(difference.map(|difference| Located { step, difference }));
    }
    Ok(None)
}

/// The digest of the logits of all `images`, classified in batches of `batch`.
///
/// # Errors
/// Images of another size than the model's inputs.
pub fn inference_digest(
    model: &Model<f32>,
    images: &Images,
    standardize: &Standardize,
    batch: usize,
) -> Result<String> {
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    let mut logits = Vec::with_capacity(images.len() * model.spec().classes);
    for part in indices.chunks(batch) {
        let tape = Tape::new(Mode::Infer);
        let images = tape.constant(evaluate::gather(images, part, standardize));
        logits.extend_from_slice(crate::arr::data(&model.forward(images, Phase::Eval)?.0.value()));
    }
    let logits: Arr<f32> = crate::arr::from_vec(&[images.len(), model.spec().classes], logits);
    Ok(State { tensors: vec![("logits".into(), logits)], numbers: Vec::new() }.digest())
}
