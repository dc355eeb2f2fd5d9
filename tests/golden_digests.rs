//! The committed digests: a change that moves the bits of results fails here.

use std::path::{Path, PathBuf};

use dynamoe::data::{self, Dataset};
use dynamoe::engine::kernels::{par, simd};
use dynamoe::train::Learner;
use dynamoe::train::config::{DataSettings, Resolved, Sources};
use dynamoe::train::verify::{Condition, inference_digest};
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

/// The folder of this test's files.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

impl Run {
    fn config(&self) -> Resolved {
        let sources = Sources { preset: Some(&self.preset), set: self.set.clone(), ..Sources::default() };
        Resolved::resolve(&sources).unwrap()
    }

    fn is_text(&self) -> bool {
        data::is_text(&self.config().data.dataset)
    }

    /// The bundled digits, or a text beside this test.
    fn data(&self) -> Dataset {
        let DataSettings { dataset, tokenizer, sequence, pack } = self.config().into_config().data;
        match self.is_text() {
            false => data::load(&dataset, None).unwrap().into(),
            true => {
                let path = folder().join(dataset);
                data::load_text(path.to_str().unwrap(), tokenizer, sequence, pack, None).unwrap().into()
            }
        }
    }

    /// Digest of the state at the end.
    fn digest(&self, data: &Dataset) -> String {
        let config = self.config();
        let mut learner = Learner::new(&config, data).unwrap();
        (0..self.steps).for_each(|_| drop(learner.step(None).unwrap()));
        learner.state().digest()
    }
}

fn table() -> Vec<Run> {
    toml::from_str::<Table>(&std::fs::read_to_string(folder().join("digests.toml")).unwrap()).unwrap().run
}

#[test]
fn every_digest_is_the_committed_one() {
    let moved: Vec<String> = table()
        .iter()
        .map(|run| (run, par::with_threads(2, || run.digest(&run.data()))))
        .filter(|(run, digest)| run.digest != *digest)
        .map(|(run, digest)| format!("{}: {} is now {digest}", run.name, run.digest))
        .collect();
    let advice =
        "if that is meant, say so under **bits** in CHANGELOG.md and change tests/golden/digests.toml";
    assert!(moved.is_empty(), "bits of results have moved; {advice}:\n{}", moved.join("\n"));
}

#[test]
fn one_digest_on_any_number_of_threads_and_at_every_simd_level() {
    let (texts, images): (Vec<Run>, Vec<Run>) = table().into_iter().partition(Run::is_text);
    for mut run in images.into_iter().take(3).chain(texts) {
        let data = run.data();
        run.steps = run.steps.min(12);
        let mut conditions: Vec<Condition> = [1, 2, 3, 4, 7, 8, 16, 64]
            .map(|threads| Condition { threads, simd_level: simd::available()[0] })
            .to_vec();
        conditions
            .extend(simd::available().into_iter().map(|simd_level| Condition { threads: 2, simd_level }));
        let digests: Vec<String> =
            conditions.iter().map(|condition| condition.run(|| Ok(run.digest(&data))).unwrap()).collect();
        for (condition, digest) in conditions.iter().zip(&digests) {
            assert_eq!(*digest, digests[0], "{}: {condition}", run.name);
        }
    }
}

#[test]
fn a_result_does_not_depend_on_the_batch_it_is_computed_in() {
    for run in table() {
        let (config, data) = (run.config(), run.data());
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
