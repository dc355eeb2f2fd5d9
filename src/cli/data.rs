//! `dynamoe data`: fetch, verify and list the data sets.

use std::path::Path;

use anyhow::{Result, bail};

use super::text::{print, table};
use crate::data::{self, FileReport, Place};

/// Downloads the files of a set and says for each whether it is new. `quiet` hides the progress bar and
/// the lines.
///
/// # Errors
/// Those of [`data::fetch()`].
pub fn fetch(name: &str, data_dir: Option<&Path>, quiet: bool) -> Result<()> {
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
pub fn verify(name: Option<&str>, data_dir: Option<&Path>) -> Result<()> {
    let here = data::list(data_dir).into_iter().filter(|set| set.place != Place::Missing);
    let names = match name {
        Some(name) => vec![name],
        None => here.map(|set| set.entry.name).collect(),
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
        (_, Some(name)) => bail!("{name}: {bad} missing or corrupt; run `dynamoe data fetch {name}`"),
        (_, None) => bail!("{bad} missing or corrupt; run `dynamoe data fetch` for those sets"),
    }
}

/// Prints a table of all known sets: counts, classes, shape, and where each is.
///
/// # Errors
/// When standard output cannot be written.
pub fn list(data_dir: Option<&Path>) -> Result<()> {
    print(&listing(data_dir))
}

fn listing(data_dir: Option<&Path>) -> String {
    let head = ["name", "train", "test", "classes", "shape", "where"].map(String::from).to_vec();
    let lines = data::list(data_dir).into_iter().map(|data::Listing { entry, place }| {
        let [height, width, channels] = entry.shape;
        let place = match place {
            Place::Bundled => "bundled".to_string(),
            Place::Folder(folder) => folder.display().to_string(),
            Place::Missing => format!("not here: dynamoe data fetch {}", entry.name),
        };
        let shape = format!("{height}x{width}x{channels}");
        let counts = [entry.train, entry.test, entry.classes].map(|count| count.to_string());
        [&[entry.name.to_string()], &counts[..], &[shape, place]].concat()
    });
    table(&std::iter::once(head).chain(lines).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_tells_what_to_do_about_missing_sets() {
        let folder = tempfile::tempdir().unwrap();
        let text = listing(Some(folder.path()));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "name           train  test   classes  shape    where");
        assert_eq!(lines[1], "digits         1442   355    10       8x8x1    bundled");
        assert_eq!(
            lines[4],
            "cifar-10       50000  10000  10       32x32x3  not here: dynamoe data fetch cifar-10"
        );
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn verify_fails_when_the_asked_set_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        verify(None, Some(folder.path())).unwrap();
        let line = verify(Some("mnist"), Some(folder.path())).unwrap_err().to_string();
        assert_eq!(line, "mnist: 4 missing or corrupt; run `dynamoe data fetch mnist`");
        assert!(verify(Some("nothing"), Some(folder.path())).is_err());
    }
}
