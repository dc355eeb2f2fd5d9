//! `dynamoe data`: fetch, verify and list the data sets.

use std::path::Path;

use anyhow::{Result, bail};

use super::flags::DataDir;
use super::output::{print, table};
use crate::data::text::Named;
use crate::data::{self, FileReport, Place};

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
        /// mnist, fashion-mnist, cifar-10 or recycling-the-web
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

/// Downloads the files of a set and says for each whether it is new. `quiet` hides the progress bar and
/// the lines.
///
/// # Errors
/// Those of [`data::fetch()`] and [`Named::fetch`].
fn fetch(name: &str, data_dir: Option<&Path>, quiet: bool) -> Result<()> {
    let fetched = match Named::of(name) {
        Some(text) => text.fetch(data_dir, !quiet)?,
        None => data::fetch(name, data_dir, !quiet)?,
    };
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
    let images = data::list(data_dir).into_iter().map(|set| (set.entry.name, set.place));
    let texts = Named::ALL.into_iter().map(|text| (text.name(), text.place(data_dir)));
    let here = images.chain(texts).filter(|(_, place)| *place != Place::Missing);
    let names = match name {
        Some(name) => vec![name],
        None => here.map(|(name, _)| name).collect(),
    };
    let mut bad = 0;
    for name in names {
        let reports = match Named::of(name) {
            Some(text) => text.verify(data_dir)?,
            None => data::verify(name, data_dir)?,
        };
        bad += reports.iter().filter(|report| report.state.is_bad()).count();
        let line = |report: &FileReport| {
            vec![name.to_string(), report.path.display().to_string(), report.state.to_string()]
        };
        print(&table(&reports.iter().map(line).collect::<Vec<_>>()))?;
    }
    match (bad, name) {
        (0, _) => Ok(()),
        (_, Some(name)) => bail!("{name}: {bad} missing or corrupt; {}", way(name)),
        (_, None) => bail!("{bad} missing or corrupt; run `dynamoe data fetch` for those sets"),
    }
}

/// What to do about missing or corrupt files of a set.
fn way(name: &str) -> String {
    let fetch = || format!("run `dynamoe data fetch {name}`");
    Named::of(name).and_then(Named::by_hand).map_or_else(fetch, String::from)
}

/// A table of the images, with counts, classes and shape, and one of the texts; and where each is.
fn listing(data_dir: Option<&Path>) -> String {
    let place = |name: &str, place: Place| match place {
        Place::Bundled => "bundled".to_string(),
        Place::Folder(folder) => folder.display().to_string(),
        Place::Missing => format!("not here: {}", way(name)),
    };
    let head = ["images", "train", "test", "classes", "shape", "where"].map(String::from).to_vec();
    let lines = data::list(data_dir).into_iter().map(|set| {
        let data::Listing { entry, place: at } = set;
        let [height, width, channels] = entry.shape;
        let shape = format!("{height}x{width}x{channels}");
        let counts = [entry.train, entry.test, entry.classes].map(|count| count.to_string());
        [&[entry.name.to_string()], &counts[..], &[shape, place(entry.name, at)]].concat()
    });
    let images = table(&std::iter::once(head).chain(lines).collect::<Vec<_>>());
    let head = ["texts", "about", "where"].map(String::from).to_vec();
    let lines = Named::ALL.into_iter().map(|text| {
        let place = place(text.name(), text.place(data_dir));
        vec![text.name().to_string(), text.about(data_dir), place]
    });
    images + "\n" + &table(&std::iter::once(head).chain(lines).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_tells_what_to_do_about_missing_sets() {
        let folder = tempfile::tempdir().unwrap();
        let text = listing(Some(folder.path()));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "images         train  test   classes  shape    where");
        assert_eq!(lines[1], "digits         1442   355    10       8x8x1    bundled");
        assert_eq!(
            lines[4],
            "cifar-10       50000  10000  10       32x32x3  not here: run `dynamoe data fetch cifar-10`"
        );
        assert!(lines[7].starts_with("guide ") && lines[7].ends_with("bundled"), "{text}");
        assert!(lines[8].contains("learns from wiki.test.tokens, is tested on wiki.valid.tokens"), "{text}");
        assert!(lines[8].ends_with("not here: put its files into that folder of the data folder"), "{text}");
        assert!(lines[9].ends_with("not here: run `dynamoe data fetch recycling-the-web`"), "{text}");
        assert_eq!(lines.len(), 10);
    }

    #[test]
    fn verify_fails_when_the_asked_set_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        verify(None, Some(folder.path())).unwrap();
        let line = verify(Some("mnist"), Some(folder.path())).unwrap_err().to_string();
        assert_eq!(line, "mnist: 4 missing or corrupt; run `dynamoe data fetch mnist`");
        assert!(verify(Some("nothing"), Some(folder.path())).is_err());
        verify(Some("guide"), Some(folder.path())).unwrap();
        let line = verify(Some("wikitext-2"), Some(folder.path())).unwrap_err().to_string();
        assert!(line.starts_with("wikitext-2: 2 missing or corrupt; put its files"), "{line}");
    }
}
