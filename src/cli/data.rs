//! `dynamoe data`: fetch, verify and list the data sets.

use std::path::Path;

use anyhow::{Result, bail};

use super::flags::DataDir;
use super::output::{print, table};
use crate::data::{self, CATALOG, FileReport, Location, catalog};

/// List, fetch and verify the data sets
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: DataVerb,
}

#[derive(clap::Subcommand)]
enum DataVerb {
    /// List the data sets, and where each is
    List(DataDir),
    /// Download a data set from its publisher
    Fetch {
        /// A data set of `dynamoe data list`
        name: String,
        #[command(flatten)]
        dir: DataDir,
        /// Print nothing but errors
        #[arg(long)]
        quiet: bool,
    },
    /// Check files against their known sums
    Verify {
        /// One data set [default: all that are here]
        name: Option<String>,
        #[command(flatten)]
        dir: DataDir,
    },
}

/// Runs one of the three.
pub fn run(args: Args) -> Result<()> {
    match args.verb {
        DataVerb::List(dir) => print(&listing(dir.path())),
        DataVerb::Fetch { name, dir, quiet } => fetch(&name, dir.path(), quiet),
        DataVerb::Verify { name, dir } => verify(name.as_deref(), dir.path()),
    }
}

/// Downloads the files of a set and prints for each whether it is new. `quiet` hides the progress bar and the lines.
fn fetch(name: &str, data_dir: Option<&Path>, quiet: bool) -> Result<()> {
    let fetched = data::fetch(name, data_dir, !quiet)?;
    if quiet {
        return Ok(());
    }
    if fetched.is_empty() {
        return print(&format!("{name} is bundled: nothing to fetch\n"));
    }
    let line = |file: &data::Fetched| {
        let what = if file.downloaded { "fetched" } else { "already here" };
        vec![what.to_string(), file.path.display().to_string()]
    };
    print(&table(&fetched.iter().map(line).collect::<Vec<_>>()))
}

/// Checks the files of one set, or of all that are here, and prints a line for each.
///
/// # Errors
/// Those of [`data::verify()`], and one line when any file is missing or corrupt.
fn verify(name: Option<&str>, data_dir: Option<&Path>) -> Result<()> {
    let here = CATALOG.iter().filter(|entry| data::locate(entry, data_dir) != Location::Missing);
    let names = match name {
        Some(name) => vec![name],
        None => here.map(|entry| entry.name).collect(),
    };
    let mut bad = 0;
    for name in names {
        let reports = data::verify(name, data_dir)?;
        bad += reports.iter().filter(|report| report.state.is_bad()).count();
        let line = |report: &FileReport| {
            vec![name.to_string(), report.path.display().to_string(), report.state.to_string()]
        };
        print(&table(&reports.iter().map(line).collect::<Vec<_>>()))?;
    }
    match (bad, name) {
        (0, _) => Ok(()),
        (_, Some(name)) => bail!("{name}: {bad} missing or corrupt; {}", catalog::entry(name)?.remedy()),
        (_, None) => bail!("{bad} missing or corrupt; run `dynamoe data fetch` for those sets"),
    }
}

/// A table of the data sets: what each contains, and where it is.
fn listing(data_dir: Option<&Path>) -> String {
    let head = ["data set", "contents", "where"].map(String::from).to_vec();
    let lines = CATALOG.iter().map(|entry| {
        let place = match data::locate(entry, data_dir) {
            Location::Bundled => "bundled".to_string(),
            Location::Folder(folder) => folder.display().to_string(),
            Location::Missing => format!("missing: {}", entry.remedy()),
        };
        vec![entry.name.to_string(), entry.describe(), place]
    });
    table(&std::iter::once(head).chain(lines).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_what_to_do_about_missing_sets() {
        let folder = tempfile::tempdir().unwrap();
        let text = listing(Some(folder.path()));
        let lines: Vec<&str> = text.lines().collect();
        let digits = "handwritten digits: 1442 training and 355 test images, 8x8x1, 10 classes";
        assert!(lines[1].starts_with("digits ") && lines[1].contains(digits), "{text}");
        assert!(lines[4].ends_with("missing: run `dynamoe data fetch cifar-10`"), "{text}");
        assert!(lines[5].starts_with("tinyshakespeare ") && lines[5].ends_with("bundled"), "{text}");
        assert!(lines[6].contains("missing: it cannot be fetched: put"), "{text}");
        assert_eq!(lines.len(), 1 + CATALOG.len());
    }

    #[test]
    fn verify_fails_when_the_requested_set_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        verify(None, Some(folder.path())).unwrap();
        verify(Some("tinyshakespeare"), Some(folder.path())).unwrap();
        assert!(verify(Some("nothing"), Some(folder.path())).is_err());
        for (name, told) in [
            ("mnist", "mnist: 4 missing or corrupt; run `dynamoe data fetch mnist`"),
            ("wikitext-2", "wikitext-2: 2 missing or corrupt; it cannot be fetched: put"),
        ] {
            let line = verify(Some(name), Some(folder.path())).unwrap_err().to_string();
            assert!(line.starts_with(told), "{line}");
        }
    }
}
