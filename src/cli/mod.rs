//! The `dynamoe` program: every verb is a file here and a row of the table below.
//!
//! A verb's file holds `Args`, its flags as the parser understands them, and `run`, which does the work with what the
//! layers below offer. The first line of the comment on `Args` is the verb's line in `--help`. Flags that several verbs
//! share are in `flags`; `output` prints, `threads` runs work on a pool, `progress` shows how far it is,
//! `trained` opens a run's network.

/// Declares verbs: an enum for the parser with a variant for each module, and `run`, which hands the flags to the module.
macro_rules! verbs {
    ($($(#[$attribute:meta])* $Verb:ident = $module:ident,)*) => {
        #[derive(clap::Subcommand)]
        #[allow(missing_docs, reason = "a comment here would become a line of --help")]
        pub enum Verb {
            $($(#[$attribute])* $Verb($module::Args),)*
        }

        impl Verb {
            fn run(self) -> anyhow::Result<()> {
                match self {
                    $(Verb::$Verb(args) => $module::run(args),)*
                }
            }
        }
    };
}

mod analyze;
mod bench;
mod completions;
mod data;
mod eval;
mod flags;
mod gradcheck;
mod import;
mod inspect;
mod output;
mod predict;
mod progress;
mod reproduce;
mod resume;
mod sample;
mod schedule;
mod step;
mod threads;
mod tokenize;
mod train;
mod trained;
mod verify;

use std::process::ExitCode;
use std::sync::OnceLock;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::engine::error::Error;
use crate::engine::kernels::simd;

// In the order of `--help`.
verbs! {
    Train = train,
    Resume = resume,
    Verify = verify,
    Step = step,
    Eval = eval,
    #[command(visible_alias = "analyse")]
    Analyze = analyze,
    Predict = predict,
    Sample = sample,
    Import = import,
    Inspect = inspect,
    Schedule = schedule,
    Reproduce = reproduce,
    Tokenize = tokenize,
    Gradcheck = gradcheck,
    Bench = bench,
    Data = data,
    Completions = completions,
}

/// Trains dynamic mixture-of-experts networks on CPUs, reproducible to the bit.
#[derive(Parser)]
#[command(name = "dynamoe", version, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    verb: Verb,
}

impl Program {
    /// The whole command line, for what describes it.
    fn description() -> clap::Command {
        Program::command()
    }
}

/// The git revision that the program was built from, if known.
static REVISION: OnceLock<Option<&'static str>> = OnceLock::new();

/// The git revision that the program was built from, if known.
fn revision() -> Option<&'static str> {
    REVISION.get().copied().flatten()
}

/// The program: parses the command line, runs the verb and prints one line for an error. `revision` is the git revision
/// that it was built from, for the manifests of its runs. Exit codes: 0 success, 1 an error, 2 a mistake on the command
/// line, 130 interrupted.
pub fn main(revision: Option<&'static str>) -> ExitCode {
    REVISION.get_or_init(|| revision);
    // A bug, not the user's mistake; still one line.
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        eprintln!("error: internal: {text}; please report this with the command that led here");
    }));
    let program = match Program::try_parse() {
        Ok(program) => program,
        // Help and version are not errors.
        Err(error)
            if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            error.exit()
        }
        Err(error) => {
            eprintln!("{}; see --help", one_line(&error.to_string()));
            return ExitCode::from(2);
        }
    };
    match simd::check_environment().map_err(Into::into).and_then(|()| program.verb.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let interrupted = matches!(error.downcast_ref(), Some(Error::Interrupted { .. }));
            ExitCode::from(if interrupted { 130 } else { 1 })
        }
    }
}

/// The parser's message in one line, without its usage and its hint at `--help`.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let kept =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    kept.collect::<Vec<_>>().join(" ").replace(" tip:", "; tip:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_flag_is_consistent_and_has_a_line_of_help() {
        fn check(command: &clap::Command) {
            for verb in command.get_subcommands() {
                assert!(verb.get_about().is_some(), "{}", verb.get_name());
                check(verb);
            }
            for flag in command.get_arguments() {
                assert!(flag.get_help().is_some(), "{} {}", command.get_name(), flag.get_id());
            }
        }
        Program::command().debug_assert();
        check(&Program::command());
    }
}
