//! Where a setting is, by name: `lr`, or `optimizer.lr`.

use super::section::Section;
use super::{DataSettings, ModelSettings, OptimizerSettings, TrainSettings};
use crate::engine::error::{Error, Result, nearest};
use crate::nn::router;

/// The sections, in the order in which they are written.
pub const SECTIONS: [&str; 5] = ["data", "model", "router", "optimizer", "train"];

/// Section names that stand for a setting of their own section when used as a key.
const SHORT: [(&str, &str); 3] = [("model", "kind"), ("router", "name"), ("optimizer", "name")];

/// A setting's section and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// One of [`SECTIONS`].
    pub section: &'static str,
    /// The name there.
    pub key: String,
}

/// The settings of a section; of `[router]` those of all routers.
fn keys(section: &str) -> Vec<&'static str> {
    let names = |keys: &'static [router::settings::Key]| keys.iter().map(|key| key.name).collect();
    match section {
        "data" => names(DataSettings::KEYS),
        "model" => names(ModelSettings::KEYS),
        "optimizer" => names(OptimizerSettings::KEYS),
        "train" => names(TrainSettings::KEYS),
        _ => std::iter::once("name").chain(router::Settings::keys().map(|(_, key, _)| key)).collect(),
    }
}

/// The place of `name`, a key or `section.key`.
///
/// # Errors
/// A setting that does not exist, with the nearest one.
pub fn find(name: &str) -> Result<Place> {
    let unknown = |candidates: Vec<&str>| {
        let near = nearest(name, candidates.into_iter()).unwrap_or_default();
        Error::config(name, format!("no such setting; the nearest is `{near}`"))
    };
    if let Some((section, key)) = name.split_once('.') {
        let Some(section) = SECTIONS.into_iter().find(|known| *known == section) else {
            let what = format!("there is no section {section}; the sections are {}", SECTIONS.join(", "));
            return Err(Error::config(name, what));
        };
        return match keys(section).contains(&key) {
            true => Ok(Place { section, key: key.into() }),
            false => {
                let near = nearest(key, keys(section).into_iter()).unwrap_or_default();
                Err(Error::config(name, format!("no such setting; the nearest is `{section}.{near}`")))
            }
        };
    }
    if let Some((section, key)) = SHORT.into_iter().find(|(section, _)| *section == name) {
        return Ok(Place { section, key: key.into() });
    }
    let holds = |section: &&str| !matches!(name, "kind" | "name") && keys(section).contains(&name);
    match SECTIONS.into_iter().find(holds) {
        Some(section) => Ok(Place { section, key: name.into() }),
        None => Err(unknown(SECTIONS.into_iter().flat_map(keys).filter(|key| *key != "name").collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name by which a setting goes without its section.
    fn short(place: &Place) -> &str {
        let stands_for = |(section, key): &(&str, &str)| *section == place.section && *key == place.key;
        if SHORT.iter().any(stands_for) { place.section } else { &place.key }
    }

    #[test]
    fn every_key_is_found_with_and_without_its_section() {
        for section in SECTIONS {
            for key in keys(section) {
                let place = find(&format!("{section}.{key}")).unwrap();
                assert_eq!((place.section, &place.key[..]), (section, key));
                assert_eq!(find(short(&place)).unwrap(), place, "no key is in two sections");
            }
        }
        assert!(find("optmizer.lr").unwrap_err().to_string().contains("no section optmizer"));
        assert!(find("model.widht").unwrap_err().to_string().contains("nearest is `model.width`"));
        assert!(find("tua").unwrap_err().to_string().contains("nearest is `tau`"));
        assert!(find("name").is_err());
    }
}
