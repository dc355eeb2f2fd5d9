//! `dynamoe verify`: replays a run, compares digests, and names the first difference.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use serde::Serialize;

use super::run::{check_threads, steps_bar};
use super::text::{grouped, print};
use crate::data::Dataset;
use crate::engine::error::Error;
use crate::engine::kernels::simd;
use crate::nn::router::Sees;
use crate::train::config::Config;
use crate::train::manifest::{self, Manifest, Session};
use crate::train::run_folder::RunFolder;
use crate::train::verify::{
    Comparison, Condition, Fault, Located, Replay, Trace, compare, inference_digest, locate, replay,
    trace_path,
};
use crate::train::{Learner, examples};

/// The flags.
#[derive(Debug)]
pub struct Options<'a> {
    /// Numbers of threads to replay with; one for each core if not given.
    pub threads: Option<Vec<usize>>,
    /// Families of kernels to replay with; the best if not given.
    pub profiles: Option<Vec<String>>,
    /// Batches to classify the test split in, with the network at the end of the first replay that agrees.
    pub batches: Option<Vec<usize>>,
    /// Stop after so many steps.
    pub steps: Option<u64>,
    /// Where data sets are.
    pub data_dir: Option<&'a Path>,
    /// A fault to be found.
    pub fault: Option<Fault>,
    /// Print JSON.
    pub json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    run: String,
    recorded_digests: usize,
    conditions: Vec<ConditionReport>,
    inference: Option<Inference>,
}

/// One replay.
#[derive(Serialize)]
struct ConditionReport {
    #[serde(flatten)]
    condition: Condition,
    /// Steps replayed.
    steps: u64,
    /// Whether every recorded digest came out again.
    same: bool,
    /// How many were compared, if so.
    compared: usize,
    /// The digest after the last step, if none differs.
    digest: Option<String>,
    first_difference: Option<Located>,
}

/// The test split, classified in batches of several sizes.
#[derive(Serialize)]
struct Inference {
    batches: Vec<usize>,
    digests: Vec<String>,
}

/// A run opened to be replayed.
struct Recorded {
    config: Config,
    data: Dataset,
    manifest: Manifest,
    total_steps: u64,
}

impl Recorded {
    fn open(run: &Path, data_dir: Option<&Path>) -> Result<Recorded> {
        let (_, config) = RunFolder::open(run)?;
        let manifest = Manifest::load(run)?;
        if manifest::config_digest(&config) != manifest.config_digest {
            let what = "was edited after the training, or written by another version; put it back";
            return Err(Error::data(&run.join("config.toml"), what).into());
        }
        let data = examples::load(&config, data_dir)?;
        if data.digest() != manifest.data_digest {
            let what = format!("was made with other data than this machine's {}", config.dataset);
            return Err(Error::data(run, what).into());
        }
        let total_steps = Learner::new(&config, &data)?.total_steps();
        if manifest.chain.last().is_some_and(|link| link.step > total_steps) {
            let what = format!("was edited: it has digests beyond the run's {total_steps} steps");
            return Err(Error::data(&run.join(manifest::FILE), what).into());
        }
        Ok(Recorded { config, data, manifest, total_steps })
    }

    /// A training of it before the first step.
    fn learner(&self) -> Result<Learner<'_>, Error> {
        Learner::new(&self.config, &self.data)
    }

    /// Who recorded step `step`.
    fn session_at(&self, step: u64) -> Option<&Session> {
        self.manifest.sessions.iter().rev().find(|session| session.from_step < step.max(1))
    }

    /// What step `step` was recorded under, as far as this machine can do the same.
    fn condition_at(&self, step: u64) -> Condition {
        /// More threads than this make no difference that fewer do not.
        const MOST: usize = 64;
        let session = self.session_at(step);
        let available = simd::available();
        let profile = session.and_then(|s| available.iter().find(|name| **name == s.profile));
        let threads = session.map_or(1, |s| s.threads.clamp(1, MOST));
        Condition { threads, profile: profile.unwrap_or(&available[0]) }
    }
}

/// Replays the run under every combination of threads and kernels.
///
/// # Errors
/// A run that cannot be opened, and one that does not come out the same: where, and in what, it differs.
pub fn run(run: &Path, options: &Options) -> Result<()> {
    let conditions = conditions(options)?;
    let recorded = Recorded::open(run, options.data_dir)?;
    let chain = &recorded.manifest.chain;
    let reached = chain.last().map_or(0, |link| link.step);
    ensure!(!chain.is_empty(), "{}: this run recorded no digests (was digest_every 0?)", run.display());
    let looks = recorded.config.spec(1, 1).rule();
    let looks = (looks.inference != Sees::Itself).then(|| looks.looks_across());
    let steps = options.steps.unwrap_or(reached).min(recorded.total_steps);
    let mut report = Report {
        run: run.display().to_string(),
        recorded_digests: chain.len(),
        conditions: vec![],
        inference: None,
    };
    let mut failure = None;
    for condition in conditions {
        let bar = steps_bar(steps, !options.json);
        bar.set_message(condition.to_string());
        let mut on_step = |step| bar.set_position(step);
        let (outcome, inference) = condition.run(|| {
            let outcome = replay(recorded.learner()?, chain, steps, options.fault, &mut on_step)?;
            let inference = match &outcome {
                Replay::Same { learner, .. } if report.inference.is_none() && looks.is_none() => {
                    Some(infer(learner, options)?)
                }
                _ => None,
            };
            Ok((outcome, inference))
        })?;
        bar.finish_and_clear();
        report.inference = report.inference.or(inference);
        let (result, why) = judge(outcome, condition, &recorded, options)?;
        if !options.json {
            let verdict = result.digest.as_ref().map_or(String::new(), |digest| {
                let (steps, compared) = (grouped(steps as usize), result.compared);
                format!(": {steps} steps, {compared} recorded digests, state digest {digest}")
            });
            line(result.same, &format!("{condition}{verdict}"))?;
        }
        report.conditions.push(result);
        if why.is_some() {
            failure = why;
            break;
        }
    }
    let inference = report.inference.as_ref().filter(|i| !i.batches.is_empty());
    if let Some(Inference { batches, digests }) = inference {
        let same = digests.iter().all(|digest| *digest == digests[0]);
        let list = batches.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        if !options.json {
            let verdict = if same { format!("logits' digest {}", digests[0]) } else { "differs".into() };
            line(same, &format!("test split in batches of {list}: {verdict}"))?;
        }
        if !same {
            let short = digests.iter().map(|digest| &digest[..16]).collect::<Vec<_>>().join(", ");
            failure.get_or_insert(format!("results depend on the batch: sizes {list} give {short}"));
        }
    } else if let (Some(looks), false) = (looks, options.json) {
        print(&format!("--  batches are not compared; does this router look across one? {looks}\n"))?;
    }
    if options.json {
        print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    failure.map_or(Ok(()), |why| Err(anyhow!("{}: not reproduced: {why}", run.display())))
}

/// What came of a replay; and if it differs, where and in what.
fn judge(
    outcome: Replay,
    condition: Condition,
    recorded: &Recorded,
    options: &Options,
) -> Result<(ConditionReport, Option<String>)> {
    let (step, what, agreed) = match outcome {
        Replay::Same { mut learner, compared } => {
            let (steps, digest) = (learner.steps(), Some(learner.state().digest()));
            let same =
                ConditionReport { condition, steps, same: true, compared, digest, first_difference: None };
            return Ok((same, None));
        }
        Replay::Differs { step, what, agreed } => (step, what, agreed),
    };
    let reference = recorded.condition_at(step);
    let elsewhere = || {
        let by = recorded.session_at(step).map_or_else(|| "nobody known".into(), describe_session);
        format!(
            "the run was recorded by {by}; if that was another machine or version, run `dynamoe verify --trace STEP` \
             there and here, and compare with --against"
        )
    };
    let mut located = None;
    let why = match agreed {
        None => {
            format!("{condition}: {what}; the two have nothing in common from the start on: {}", elsewhere())
        }
        Some(agreed) => {
            located = locate(agreed, step, reference, condition, options.fault)?;
            match &located {
                Some(Located { step, difference }) => format!(
                    "{condition}: {what}; the first difference to {reference} is in step {step}, {difference}"
                ),
                None => format!("{condition}: {what}; {reference} gives the same here: {}", elsewhere()),
            }
        }
    };
    let report = ConditionReport {
        condition,
        steps: step,
        same: false,
        compared: 0,
        digest: None,
        first_difference: located,
    };
    Ok((report, Some(why)))
}

/// A program and machine.
fn describe_session(s: &Session) -> String {
    let revision = s.revision.as_deref().map_or(String::new(), |r| format!(" ({r})"));
    format!("version {}{revision}, {}, {}, {} threads", s.version, s.target, s.profile, s.threads)
}

/// The test split's logits in batches of each size.
fn infer(learner: &Learner, options: &Options) -> Result<Inference, Error> {
    let batches = options.batches.clone().unwrap_or_else(|| vec![1, 7, 64, 256]);
    let digest = |&batch: &usize| inference_digest(&learner.model, learner.test(), batch);
    let digests = batches.iter().map(digest).collect::<Result<_, Error>>()?;
    Ok(Inference { batches, digests })
}

/// Every combination of threads and kernels asked for.
fn conditions(options: &Options) -> Result<Vec<Condition>> {
    let profiles = match &options.profiles {
        None => vec![simd::name()],
        Some(names) => names.iter().map(|name| simd::by_name(name)).collect::<Result<_, _>>()?,
    };
    let threads = match &options.threads {
        None => vec![std::thread::available_parallelism().map_or(1, usize::from)],
        Some(counts) => counts.clone(),
    };
    ensure!(
        options.batches.iter().flatten().all(|&batch| batch > 0),
        "setting batches: 0 is impossible; it must be 1 or more"
    );
    threads.iter().try_for_each(|&count| check_threads(count))?;
    let pairs = profiles.iter().flat_map(|&profile| threads.iter().map(move |&t| (t, profile)));
    Ok(pairs.map(|(threads, profile)| Condition { threads, profile }).collect())
}

/// Writes down every array of step `step` of the run, replayed here, into its folder.
///
/// # Errors
/// A run that cannot be opened, a step that it does not have, a full disk.
pub fn trace(run: &Path, step: u64, options: &Options) -> Result<()> {
    let conditions = conditions(options)?;
    let recorded = Recorded::open(run, options.data_dir)?;
    let total = recorded.total_steps;
    ensure!((1..=total).contains(&step), "setting trace: there is no step {step}; the run has 1 to {total}");
    let bar = steps_bar(step - 1, !options.json);
    let mut on_step = |step| bar.set_position(step);
    let trace = conditions[0].run(|| {
        match replay(recorded.learner()?, &[], step - 1, options.fault, &mut on_step)? {
            Replay::Same { mut learner, .. } => Trace::record(&mut learner, options.fault),
            Replay::Differs { what, .. } => {
                let what = format!("has no step {step} to trace: it breaks off before ({what})");
                Err(Error::data(run, what))
            }
        }
    })?;
    bar.finish_and_clear();
    let path = trace_path(run, step);
    crate::engine::files::create_dir(path.parent().unwrap_or(run))?;
    trace.write(&path)?;
    print(&format!("{} arrays of step {step} are in {}\n", grouped(trace.len()), path.display()))
}

/// Compares the records of two runs.
///
/// # Errors
/// Runs that cannot be opened, and runs that are not the same: where they part.
pub fn against(run: &Path, other: &Path, json: bool) -> Result<()> {
    let comparison = compare(run, other)?;
    if json {
        print(&(serde_json::to_string_pretty(&comparison)? + "\n"))?;
    }
    if comparison.is_same() {
        ensure!(
            comparison.compared > 0,
            "{} and {}: the two runs have no recorded digest in common",
            run.display(),
            other.display()
        );
        let Some(last) = comparison.last_same else { return Ok(()) };
        let text = format!(
            "{} recorded digests are the same, the last after step {}: {}",
            comparison.compared, last.step, last.digest
        );
        return if json { Ok(()) } else { line(true, &text) };
    }
    let machine = |folder: &Path| -> Result<String> {
        let sessions = Manifest::load(folder)?.sessions;
        Ok(sessions.iter().map(describe_session).collect::<Vec<_>>().join(", then "))
    };
    let (a, b) = (machine(run)?, machine(other)?);
    let machines = if a == b { format!("both by {a}") } else { format!("by {a}, and by {b}") };
    Err(anyhow!("{} and {} differ: {}; {machines}", run.display(), other.display(), describe(&comparison)))
}

/// Where two runs part, in words.
fn describe(comparison: &Comparison) -> String {
    let Comparison { settings, same_data, last_same, first_differing, first_metric, trace, .. } = comparison;
    let mut parts = Vec::new();
    if !settings.is_empty() {
        parts.push(format!("other settings ({})", settings.join(", ")));
    }
    if !same_data {
        parts.push("other data".into());
    }
    if let Some(step) = first_differing {
        let same = last_same.as_ref().map_or("none before is the same".into(), |l| {
            format!("step {} is the last that is the same", l.step)
        });
        parts.push(format!("the digests differ after step {step}, {same}"));
    }
    if let Some(step) = first_metric {
        parts.push(format!("loss or gradient norm differ first in step {step}"));
    }
    match trace {
        Some((step, difference)) => parts.push(format!("the traces of step {step} part in {difference}")),
        None => {
            let step = first_metric.or(*first_differing).unwrap_or(1);
            let before = if step > 1 { format!(" and {}", step - 1) } else { String::new() };
            parts.push(format!(
                "to find the array, run `dynamoe verify RUN --trace {step}`{before} on both machines, and compare again"
            ));
        }
    }
    parts.join("; ")
}

/// A line with a mark before it, in color where somebody looks.
fn line(good: bool, text: &str) -> Result<()> {
    let (mark, color) = if good { ("ok", 32) } else { ("DIFFERS", 31) };
    let colored = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mark = if colored { format!("\u{1b}[{color}m{mark}\u{1b}[0m") } else { mark.into() };
    print(&format!("{mark}  {text}\n"))
}
