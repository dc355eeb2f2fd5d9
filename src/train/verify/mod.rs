//! Replays a run, compares it with its manifest and finds the first difference.
//!
//! [`replay`] trains again and compares digests with the recorded ones. Where one differs, [`locate`] goes back
//! to the last that did not, takes the same steps under a reference condition and the tested one, and names the first
//! array, in the order of execution, that differs.

mod compare;
pub mod step_file;
mod trace;

pub use compare::{Comparison, compare, trace_path};
pub use trace::{Difference, Fault, Trace};

use crate::data::Examples;
use crate::engine::arr::Arr;
use crate::engine::error::{Error, Result};
use crate::engine::kernels::{par, simd};
use crate::engine::tape::{Mode, Tape};
use crate::nn::{Model, Phase};
use crate::train::manifest::Link;
use crate::train::{Learner, State};

/// What must not change a result: the number of threads and the SIMD level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Condition {
    /// Threads.
    pub threads: usize,
    /// One of [`simd::available`].
    pub simd_level: &'static str,
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let s = if self.threads == 1 { "" } else { "s" };
        write!(f, "{} thread{s}, {}", self.threads, self.simd_level)
    }
}

impl Condition {
    /// Runs `work` under this condition.
    ///
    /// # Errors
    /// If this processor lacks the SIMD level, if the system refuses to start the threads, and the errors of `work`.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        let result = simd::with_level(self.simd_level, || par::try_with_threads(self.threads, work))?;
        result.unwrap_or_else(|| Err(par::refused(self.threads)))
    }
}

/// The outcome of a replay.
pub enum Replay<'a> {
    /// Every recorded digest was reproduced.
    Same {
        /// The training at the end.
        learner: Learner<'a>,
        /// How many digests were compared.
        compared: usize,
    },
    /// One was not, or the training failed before it.
    Differs {
        /// After how many steps.
        step: u64,
        /// What was found instead: another digest, or NaN.
        what: String,
        /// The training at the last digest that agreed; none if already the first differs.
        agreed: Option<Learner<'a>>,
    },
}

/// Takes `steps` steps from the start, under the current condition, and compares each digest in `chain`.
/// `fault` flips one bit; `on_step` is called with the number of steps taken.
///
/// # Errors
/// Those of training, except for NaN and infinity, which are a difference.
pub fn replay<'a>(
    mut learner: Learner<'a>,
    chain: &[Link],
    steps: u64,
    fault: Option<Fault>,
    on_step: &mut (dyn FnMut(u64) + Send),
) -> Result<Replay<'a>> {
    let mut links = chain.iter().filter(|link| link.step <= steps).peekable();
    let (mut agreed, mut compared) = (None, 0);
    loop {
        if let Some(link) = links.next_if(|link| link.step == learner.steps()) {
            let found = learner.state().digest();
            if found != link.digest {
                let [found, recorded] =
                    [&found, &link.digest].map(|digest| digest.get(..16).unwrap_or(digest));
                let what = format!("the digest after step {} is {found}, recorded is {recorded}", link.step);
                return Ok(Replay::Differs { step: link.step, what, agreed });
            }
            agreed = Some(learner.clone());
            compared += 1;
        }
        if learner.steps() >= steps {
            return Ok(Replay::Same { learner, compared });
        }
        match take_step(&mut learner, fault) {
            Ok(()) => on_step(learner.steps()),
            Err(Error::NonFinite { step, what, .. }) => {
                return Ok(Replay::Differs { step, what: format!("step {step}: {what}"), agreed });
            }
            Err(other) => return Err(other),
        }
    }
}

/// One step, with the fault if it is in this step.
fn take_step(learner: &mut Learner, fault: Option<Fault>) -> Result<()> {
    let due = fault.filter(|fault| fault.step == learner.steps() + 1);
    learner.step(due.map(Fault::watch)).map(drop)
}

/// The first step, and in it the first array, in which two conditions differ.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Located {
    /// Counted from 1.
    pub step: u64,
    /// The first difference in it.
    #[serde(flatten)]
    pub difference: Difference,
}

/// Takes the same steps from `start` to step `until` under two conditions, and finds where they differ; `fault` flips a
/// bit in the second.
///
/// # Errors
/// Those of training, except for NaN and infinity.
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
        let step = a.steps() + 1;
        let [in_a, in_b] = [
            reference.run(|| digest_after_step(&mut a, None))?,
            tested.run(|| digest_after_step(&mut b, fault))?,
        ];
        if in_a != in_b {
            let (mut a, mut b) = before;
            let expected = reference.run(|| Trace::record(&mut a, None))?;
            let found = tested.run(|| Trace::record(&mut b, fault))?;
            let difference = expected.first_difference(&found);
            return Ok(difference.map(|difference| Located { step, difference }));
        }
        if in_a.is_none() {
            break;
        }
    }
    Ok(None)
}

/// The digest after one more step; none if there is NaN or infinity in it.
fn digest_after_step(learner: &mut Learner, fault: Option<Fault>) -> Result<Option<String>> {
    match take_step(learner, fault) {
        Ok(()) => Ok(Some(learner.state().digest())),
        Err(Error::NonFinite { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// The most logits in [`inference_digest`]: vocabulary times split would not fit in memory.
const LOGITS: usize = 1 << 26;

/// The digest of the logits of all `examples`, or of as many as have 2^26 logits, taken in batches of `batch`.
///
/// # Errors
/// Examples of another kind or size than the model takes.
pub fn inference_digest(model: &Model<f32>, examples: &Examples, batch: usize) -> Result<String> {
    let (mut logits, classes) = (Vec::new(), model.spec().classes);
    let most = (LOGITS / (classes * examples.rows_of_one())).max(1);
    let indices: Vec<u32> = (0..examples.len().min(most) as u32).collect();
    for part in indices.chunks(batch) {
        let tape = Tape::new(Mode::Infer);
        let (h, _) = model.hidden(&tape, &examples.batch(part).0, Phase::Eval)?;
        logits.extend_from_slice(crate::engine::arr::data(&model.logits(h)?.value()));
    }
    let logits: Arr<f32> = crate::engine::arr::from_vec(&[logits.len() / classes, classes], logits);
    Ok(State { tensors: vec![("logits".into(), logits)], numbers: Vec::new() }.digest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Dataset};
    use crate::engine::kernels::random::{Purpose, Stream};
    use crate::train::config::Resolved;

    const STEPS: u64 = 40;

    fn config() -> Resolved {
        let layers = crate::train::config::Sources {
            set: [
                "layers=2",
                "width=16",
                "experts_max=4",
                "digest_every=10",
                "norm=post",
                "percentile_scope=batch",
            ]
            .map(String::from)
            .to_vec(),
            ..Default::default()
        };
        Resolved::resolve(&layers).unwrap()
    }

    /// The digests of an undisturbed training, recorded where they are due.
    fn record(config: &Resolved, data: &Dataset) -> Vec<Link> {
        let mut learner = Learner::new(config, data).unwrap();
        let mut chain = Vec::new();
        loop {
            if learner.is_digest_due() {
                let (step, epoch) = (learner.steps(), learner.ended_epoch());
                chain.push(Link { step, epoch, digest: learner.state().digest() });
            }
            if learner.steps() == STEPS {
                return chain;
            }
            learner.step(None).unwrap();
        }
    }

    fn condition(threads: usize) -> Condition {
        Condition { threads, simd_level: simd::available()[0] }
    }

    #[test]
    fn a_fault_of_one_bit_is_found_where_it_was_made_at_20_random_places() {
        let (config, data) = (config(), Dataset::from(data::load("digits", None).unwrap()));
        let chain = record(&config, &data);
        assert_eq!(chain.iter().map(|link| link.step).collect::<Vec<_>>(), [0, 10, 20, 30, 40]);
        let learner = || Learner::new(&config, &data).unwrap();
        let arrays = Trace::record(&mut learner(), None).unwrap().len();
        let mut random = Stream::new(1, Purpose::Check, 7, 0).generator();
        let mut draw = |below: usize| random.bounded(below as u32) as usize;
        let (mut found, mut without_effect, mut passes) = (0, 0, std::collections::BTreeSet::new());
        while found < 20 {
            let (step, array) = (1 + draw(STEPS as usize) as u64, 1 + draw(arrays));
            let fault = Fault { step, array, element: draw(100_000), bit: draw(32) as u32 };
            let outcome = replay(learner(), &chain, STEPS, Some(fault), &mut |_| ()).unwrap();
            let Replay::Differs { step, agreed, .. } = outcome else {
                // A bit in what nothing depends on, such as the gradient of a gate that was not chosen.
                without_effect += 1;
                assert!(without_effect < 20, "faults are missed");
                continue;
            };
            let agreed = agreed.unwrap();
            assert!(agreed.steps() < fault.step && fault.step <= step, "{fault:?}");
            let located = locate(agreed, step, condition(1), condition(3), Some(fault)).unwrap().unwrap();
            assert_eq!((located.step, located.difference.array), (fault.step, fault.array), "{fault:?}");
            assert_eq!(located.difference.differing, 1, "{fault:?}: {}", located.difference);
            passes.insert(located.difference.what.split([',', ':']).next().unwrap().to_string());
            found += 1;
        }
        assert_eq!(passes.into_iter().collect::<Vec<_>>(), ["backward", "forward", "optimizer"]);
    }

    #[test]
    fn the_sign_of_a_zero_is_found() {
        let (config, data) = (config(), Dataset::from(data::load("digits", None).unwrap()));
        let chain = record(&config, &data);
        let learner = || Learner::new(&config, &data).unwrap();
        // In the last step before a digest: the next would add to the zero, and lose its sign.
        let mut before = learner();
        (0..9).for_each(|_| drop(before.step(None).unwrap()));
        let (array, element) =
            Trace::record(&mut before, None).unwrap().first_zero("optimizer: first moment");
        let fault = Fault { step: 10, array, element, bit: 31 };
        let outcome = replay(learner(), &chain, STEPS, Some(fault), &mut |_| ()).unwrap();
        let Replay::Differs { step, agreed, .. } = outcome else { panic!("missed") };
        let located =
            locate(agreed.unwrap(), step, condition(1), condition(2), Some(fault)).unwrap().unwrap();
        assert_eq!((located.step, located.difference.array, located.difference.ulps), (10, array, Some(1)));
    }

    #[test]
    fn without_a_fault_every_digest_comes_out_again_and_nothing_is_located() {
        let (config, data) = (config(), Dataset::from(data::load("digits", None).unwrap()));
        let chain = record(&config, &data);
        let learner = || Learner::new(&config, &data).unwrap();
        let outcome = condition(3).run(|| replay(learner(), &chain, STEPS, None, &mut |_| ())).unwrap();
        let Replay::Same { learner: replayed, compared: 5 } = outcome else { panic!("it differs") };
        assert_eq!(replayed.state().digest(), chain[4].digest);
        assert_eq!(locate(learner(), 3, condition(1), condition(2), None).unwrap(), None);
        // A recording that no condition here gives again.
        let other = [Link { digest: "0".repeat(64), ..chain[0].clone() }];
        let outcome = replay(learner(), &other, STEPS, None, &mut |_| ()).unwrap();
        assert!(matches!(outcome, Replay::Differs { step: 0, agreed: None, .. }));
    }

    #[test]
    fn logits_do_not_depend_on_the_batch() {
        let (config, data) = (config(), Dataset::from(data::load("digits", None).unwrap()));
        let mut learner = Learner::new(&config, &data).unwrap();
        let digest =
            |learner: &Learner, batch| inference_digest(&learner.model, learner.test(), batch).unwrap();
        (0..3).for_each(|_| drop(learner.step(None).unwrap()));
        let one = digest(&learner, 1);
        assert!([7, 64, 256, 1000].into_iter().all(|batch| digest(&learner, batch) == one));
        learner.step(None).unwrap();
        assert_ne!(digest(&learner, 1), one);
    }
}
