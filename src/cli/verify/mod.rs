//! `dynamoe verify`: replays a run, compares digests, and names the first difference.

mod against;
mod replay;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::flags::{DataDir, Json};
use super::output::{grouped, print};
use super::progress::steps_bar;
use super::threads;
use crate::data::Dataset;
use crate::engine::error::Error;
use crate::engine::files;
use crate::engine::kernels::simd;
use crate::train::config::Resolved;
use crate::train::manifest::{self, Manifest, Session};
use crate::train::run_folder::RunFolder;
use crate::train::verify::{self, Condition, Replay, Trace, trace_path};
use crate::train::{Learner, examples};

/// Replay a run and compare every recorded digest; if one differs, name the first array that does
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the run
    run: PathBuf,
    /// Replay with each of these thread counts, such as 1,2,8 [default: one per core]
    #[arg(long, value_delimiter = ',', value_name = "COUNTS")]
    threads: Option<Vec<usize>>,
    /// Replay with each of these SIMD levels: avx512, avx2, neon, portable [default: the best]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    simd: Option<Vec<String>>,
    /// Evaluate the test split in batches of each of these sizes [default: 1,7,64,256]
    #[arg(long, value_delimiter = ',', value_name = "SIZES")]
    batches: Option<Vec<usize>>,
    /// Stop after this many steps
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Write every array of this step into the run's folder, for --against
    #[arg(long, value_name = "STEP", conflicts_with_all = ["steps", "batches"])]
    trace: Option<u64>,
    /// Replay nothing; compare what two runs recorded, on two machines say
    #[arg(long, value_name = "RUN", conflicts_with_all = ["threads", "simd", "batches", "steps", "trace"])]
    against: Option<PathBuf>,
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    json: Json,
}

/// Replays under every combination of thread counts and SIMD levels; or writes a trace, or compares two runs.
pub fn run(args: Args) -> Result<()> {
    match (&args.against, args.trace) {
        (Some(other), _) => against::run(&args.run, other, &args.json),
        (None, Some(step)) => trace(&args, step),
        (None, None) => replay::run(&args),
    }
}

/// A run to replay.
struct Recorded {
    config: Resolved,
    data: Dataset,
    manifest: Manifest,
    total_steps: u64,
}

impl Recorded {
    fn open(run: &Path, data_dir: Option<&Path>) -> Result<Recorded> {
        let (_, config) = RunFolder::open(run)?;
        let manifest = Manifest::load(run)?;
        if manifest::config_digest(&config) != manifest.config_digest {
            let what = "was edited after the training; put it back";
            return Err(Error::data(&run.join("config.toml"), what).into());
        }
        let data = examples::load(&config, data_dir)?;
        if data.digest() != manifest.data_digest {
            let what = format!("was made with other data than this machine's {}", config.data.dataset);
            return Err(Error::data(run, what).into());
        }
        let total_steps = Learner::new(&config, &data)?.total_steps();
        if manifest.chain.last().is_some_and(|link| link.step > total_steps) {
            let what = format!("was edited: it has digests beyond the run's {total_steps} steps");
            return Err(Error::data(&run.join(manifest::FILE), what).into());
        }
        Ok(Recorded { config, data, manifest, total_steps })
    }

    /// Its training before the first step.
    fn learner(&self) -> Result<Learner<'_>, Error> {
        Learner::new(&self.config, &self.data)
    }

    /// Who recorded step `step`.
    fn session_at(&self, step: u64) -> Option<&Session> {
        self.manifest.sessions.iter().rev().find(|session| session.from_step < step.max(1))
    }

    /// What step `step` was recorded under, as far as this machine can do the same.
    fn condition_at(&self, step: u64) -> Condition {
        /// A difference that depends on threads shows with this many.
        const MOST: usize = 64;
        let session = self.session_at(step);
        let available = simd::available();
        let simd_level = session.and_then(|s| available.iter().find(|name| **name == s.simd_level));
        let threads = session.map_or(1, |s| s.threads.clamp(1, MOST));
        Condition { threads, simd_level: simd_level.unwrap_or(&available[0]) }
    }
}

/// Every requested combination of thread count and SIMD level.
fn conditions(args: &Args) -> Result<Vec<Condition>> {
    let simd_levels = match &args.simd {
        None => vec![simd::name()],
        Some(names) => names.iter().map(|name| simd::by_name(name)).collect::<Result<_, _>>()?,
    };
    let counts = match &args.threads {
        None => vec![threads::cores()],
        Some(counts) => counts.clone(),
    };
    ensure!(
        args.batches.iter().flatten().all(|&batch| batch > 0),
        "setting batches: 0 is out of range; it must be 1 or more"
    );
    counts.iter().try_for_each(|&count| threads::check(count))?;
    let pairs = simd_levels.iter().flat_map(|&simd_level| counts.iter().map(move |&t| (t, simd_level)));
    Ok(pairs.map(|(threads, simd_level)| Condition { threads, simd_level }).collect())
}

/// Writes every array of step `step` of the run, replayed here, into the run's folder.
fn trace(args: &Args, step: u64) -> Result<()> {
    let run = &args.run;
    let conditions = conditions(args)?;
    let recorded = Recorded::open(run, args.data.path())?;
    let total = recorded.total_steps;
    ensure!((1..=total).contains(&step), "setting trace: there is no step {step}; the run has 1 to {total}");
    let bar = steps_bar(step - 1, !args.json.json);
    let mut on_step = |step| bar.set_position(step);
    let trace = conditions[0].run(|| {
        match verify::replay(recorded.learner()?, &[], step - 1, None, &mut on_step)? {
            Replay::Same { mut learner, .. } => Trace::record(&mut learner, None),
            Replay::Differs { what, .. } => {
                let what = format!("has no step {step} to trace: training fails before it ({what})");
                Err(Error::data(run, what))
            }
        }
    })?;
    bar.finish_and_clear();
    let path = trace_path(run, step);
    files::create_dir(path.parent().unwrap_or(run))?;
    trace.write(&path)?;
    print(&format!("{} arrays of step {step} are in {}\n", grouped(trace.len()), path.display()))
}

/// Program and machine of a session.
fn describe_session(s: &Session) -> String {
    let revision = s.revision.as_deref().map_or(String::new(), |r| format!(" ({r})"));
    format!("version {}{revision}, {}, {}, {} threads", s.version, s.target, s.simd_level, s.threads)
}

/// Prints a line with a mark before it, in color on a terminal.
fn line(good: bool, text: &str) -> Result<()> {
    let (mark, color) = if good { ("ok", 32) } else { ("DIFFERS", 31) };
    let colored = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mark = if colored { format!("\u{1b}[{color}m{mark}\u{1b}[0m") } else { mark.into() };
    print(&format!("{mark}  {text}\n"))
}
