//! The committed digests: a change that moves the bits of results fails here.

use std::path::Path;

use dynamoe::config::{Config, Layers};
use dynamoe::data::{self, Dataset};
use dynamoe::kernels::{par, simd};
use dynamoe::train::Learner;
use dynamoe::verify::{Condition, inference_digest};
use serde::Deserialize;

#[derive(Deserialize)]
struct Table {
    run: Vec<Run>,
}

/// One training and what it must come to.
#[derive(Deserialize)]
struct Run {
    name: String,
    preset: String,
    set: Vec<String>,
    steps: u64,
    digest: String,
}

impl Run {
    /// Digest of the state at the end.
    fn digest(&self, data: &Dataset) -> String {
        let layers = Layers { preset: Some(&self.preset), file: None, set: self.set.clone() };
        let config = Config::resolve(&layers).unwrap();
        let mut learner = Learner::new(&config, data).unwrap();
        (0..self.steps).for_each(|_| drop(learner.step(None).unwrap()));
        learner.state().digest()
    }
}

fn table() -> Vec<Run> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/digests.toml");
    toml::from_str::<Table>(&std::fs::read_to_string(path).unwrap()).unwrap().run
}

#[test]
fn every_digest_is_the_committed_one() {
    let data = Dataset::from(data::load("digits", None).unwrap());
    let moved: Vec<String> = table()
        .iter()
        .map(|run| (run, par::with_threads(2, || run.digest(&data))))
        .filter(|(run, digest)| run.digest != *digest)
        .map(|(run, digest)| format!("{}: {} is now {digest}", run.name, run.digest))
        .collect();
    let advice =
        "if that is meant, say so under **bits** in CHANGELOG.md and change tests/golden/digests.toml";
    assert!(moved.is_empty(), "bits of results have moved; {advice}:\n{}", moved.join("\n"));
}

#[test]
fn one_digest_on_any_number_of_threads_and_with_every_family_of_kernels() {
    let data = Dataset::from(data::load("digits", None).unwrap());
    for mut run in table().into_iter().take(3) {
        run.steps = 12;
        let mut conditions: Vec<Condition> = [1, 2, 3, 4, 7, 8, 16, 64]
            .map(|threads| Condition { threads, profile: simd::available()[0] })
            .to_vec();
        conditions.extend(simd::available().into_iter().map(|profile| Condition { threads: 2, profile }));
        let digests: Vec<String> =
            conditions.iter().map(|condition| condition.run(|| Ok(run.digest(&data))).unwrap()).collect();
        for (condition, digest) in conditions.iter().zip(&digests) {
            assert_eq!(*digest, digests[0], "{}: {condition}", run.name);
        }
    }
}

#[test]
fn a_result_does_not_depend_on_the_batch_it_is_computed_in() {
    let data = Dataset::from(data::load("digits", None).unwrap());
    for run in table() {
        let layers = Layers { preset: Some(&run.preset), file: None, set: run.set.clone() };
        let config = Config::resolve(&layers).unwrap();
        let mut learner = Learner::new(&config, &data).unwrap();
        for steps in [0, 3] {
            (0..steps).for_each(|_| drop(learner.step(None).unwrap()));
            let digest = |batch| inference_digest(&learner.model, learner.test(), batch).unwrap();
            let one = digest(1);
            assert!(
                [7, 64, 256].into_iter().all(|batch| digest(batch) == one),
                "{}, {steps} steps",
                run.name
            );
        }
    }
}
