//! Replays of a run, and what a difference is traced to.

use anyhow::{Result, anyhow, ensure};
use serde::Serialize;

use super::{Args, Recorded, conditions, describe_session, line};
use crate::cli::output::{grouped, print};
use crate::cli::progress::steps_bar;
use crate::engine::error::Error;
use crate::nn::router::Sees;
use crate::train::Learner;
use crate::train::verify::{Condition, Fault, Located, Replay, inference_digest, locate, replay};

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
    /// Whether every recorded digest was reproduced.
    same: bool,
    /// How many were compared, if all were reproduced.
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

/// Replays the run under every combination of threads and kernels. A run that is not reproduced is an error that says
/// where and in what it differs.
pub fn run(args: &Args) -> Result<()> {
    let run = &args.run;
    let conditions = conditions(args)?;
    let recorded = Recorded::open(run, args.data.path())?;
    let chain = &recorded.manifest.chain;
    let reached = chain.last().map_or(0, |link| link.step);
    ensure!(!chain.is_empty(), "{}: this run recorded no digests (was digest_every 0?)", run.display());
    let looks = recorded.config.spec(1, 1).rule();
    let looks = (looks.inference != Sees::Itself).then(|| looks.looks_across());
    let steps = args.steps.unwrap_or(reached).min(recorded.total_steps);
    let mut report = Report {
        run: run.display().to_string(),
        recorded_digests: chain.len(),
        conditions: vec![],
        inference: None,
    };
    let mut failure = None;
    for condition in conditions {
        let bar = steps_bar(steps, !args.json.json);
        bar.set_message(condition.to_string());
        let mut on_step = |step| bar.set_position(step);
        let (outcome, inference) = condition.run(|| {
            let outcome = replay(recorded.learner()?, chain, steps, None, &mut on_step)?;
            let inference = match &outcome {
                Replay::Same { learner, .. } if report.inference.is_none() && looks.is_none() => {
                    Some(infer(learner, args)?)
                }
                _ => None,
            };
            Ok((outcome, inference))
        })?;
        bar.finish_and_clear();
        report.inference = report.inference.or(inference);
        let (result, why) = judge(outcome, condition, &recorded, None)?;
        if !args.json.json {
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
        if !args.json.json {
            let verdict = if same { format!("logits' digest {}", digests[0]) } else { "differs".into() };
            line(same, &format!("test split in batches of {list}: {verdict}"))?;
        }
        if !same {
            let short = digests.iter().map(|digest| &digest[..16]).collect::<Vec<_>>().join(", ");
            failure.get_or_insert(format!("results depend on the batch: sizes {list} give {short}"));
        }
    } else if let (Some(looks), false) = (looks, args.json.json) {
        print(&format!("--  batch sizes are not compared: this router looks across the batch ({looks})\n"))?;
    }
    if args.json.json {
        print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    failure.map_or(Ok(()), |why| Err(anyhow!("{}: not reproduced: {why}", run.display())))
}

/// The outcome of a replay; and if it differs, where and in what. `fault` is what the replay was falsified with.
fn judge(
    outcome: Replay,
    condition: Condition,
    recorded: &Recorded,
    fault: Option<Fault>,
) -> Result<(ConditionReport, Option<String>)> {
    let (step, what, agreed) = match outcome {
        Replay::Same { learner, compared } => {
            let (steps, digest) = (learner.steps(), Some(learner.state().digest()));
            let same =
                ConditionReport { condition, steps, same: true, compared, digest, first_difference: None };
            return Ok((same, None));
        }
        Replay::Differs { step, what, agreed } => (step, what, agreed),
    };
    let reference = recorded.condition_at(step);
    let elsewhere = || {
        let by = recorded.session_at(step).map_or_else(|| "an unknown session".into(), describe_session);
        format!(
            "the run was recorded by {by}; if that was another machine or version, run `dynamoe verify --trace STEP` \
             there and here, and compare with --against"
        )
    };
    let mut located = None;
    let why = match agreed {
        None => {
            format!("{condition}: {what}; the two differ from the start: {}", elsewhere())
        }
        Some(agreed) => {
            located = locate(agreed, step, reference, condition, fault)?;
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

/// The test split's logits in batches of each size.
fn infer(learner: &Learner, args: &Args) -> Result<Inference, Error> {
    let batches = args.batches.clone().unwrap_or_else(|| vec![1, 7, 64, 256]);
    let digest = |&batch: &usize| inference_digest(&learner.model, learner.test(), batch);
    let digests = batches.iter().map(digest).collect::<Result<_, Error>>()?;
    Ok(Inference { batches, digests })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Dataset};
    use crate::engine::kernels::simd;
    use crate::train::config::{Resolved, Sources};
    use crate::train::manifest::{Link, Manifest};

    #[test]
    fn the_array_of_a_flipped_bit_is_named() {
        let set = ["layers=2", "width=16", "experts_max=4", "norm=post", "batch=64"].map(String::from).into();
        let config = Resolved::resolve(&Sources { set, ..Sources::default() }).unwrap();
        let data = Dataset::from(data::load("digits", None).unwrap());
        let chain = {
            let mut learner = Learner::new(&config, &data).unwrap();
            let link = |step| Link { step, epoch: None, digest: learner.state().digest() };
            let start = link(0);
            (0..4).for_each(|_| drop(learner.step(None).unwrap()));
            vec![start, Link { step: 4, epoch: None, digest: learner.state().digest() }]
        };
        let manifest = Manifest {
            schema_version: 1,
            config_digest: String::new(),
            data_digest: String::new(),
            sessions: Vec::new(),
            chain: chain.clone(),
        };
        let recorded = Recorded { config, data, manifest, total_steps: 4 };
        let condition = Condition { threads: 2, simd_level: simd::name() };
        let outcome = |fault| replay(recorded.learner().unwrap(), &chain, 4, fault, &mut |_| ()).unwrap();
        let (report, why) = judge(outcome(None), condition, &recorded, None).unwrap();
        assert!(report.same && report.compared == 2 && why.is_none());
        let fault = Some(Fault { step: 3, array: 13, element: 7, bit: 9 });
        let (report, why) = judge(outcome(fault), condition, &recorded, fault).unwrap();
        let why = why.unwrap();
        assert!(!report.same && why.contains("the digest after step 4 is "), "{why}");
        assert!(why.contains("is in step 3, array 13 of ") && why.contains("by up to 512 ulp"), "{why}");
    }
}
