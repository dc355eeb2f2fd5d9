//! The routers by name: to add one, write its file and a line in the table below.

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::losses::{self, Weights};
use super::routing::Router;
#[cfg(test)]
use super::rule::Expect;
use super::rule::{About, Cost, Layer, RouterSettings, Rule};
use super::settings::{Key, Keys};
use crate::engine::error::{Error, Result, nearest};
use crate::engine::kernels::elem::Elem;
use crate::nn::param::Init;

/// Which router, with its own settings, and the weights of the losses that every router can have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The router.
    pub choice: Choice,
    /// Weights of the common losses.
    pub losses: losses::Settings,
}

macro_rules! routers {
    ($($name:literal => $module:ident::$router:ident,)*) => {
        /// A router with its own settings.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Choice {
            $(#[doc = concat!("See [`super::", stringify!($module), "`].")] $router(super::$module::Settings),)*
        }

        /// The names of all routers.
        pub const NAMES: &[&str] = &[$($name),*];

        /// The default settings of the router called `name`.
        fn default_choice(name: &str) -> Option<Choice> {
            match name {
                $($name => Some(Choice::$router(Default::default())),)*
                _ => None,
            }
        }

        /// The settings to test every router with.
        #[cfg(test)]
        pub(super) fn variants() -> impl Iterator<Item = Settings> {
            [$(super::$module::Settings::variants().into_iter().map(Settings::from).collect::<Vec<_>>()),*].into_iter().flatten()
        }

        $(impl From<super::$module::Settings> for Settings {
            fn from(own: super::$module::Settings) -> Settings {
                Settings { choice: Choice::$router(own), losses: losses::Settings::default() }
            }
        })*

        /// Calls a method of the chosen router's own settings.
        macro_rules! own {
            ($choice:expr, $own:ident => $call:expr) => {
                match $choice { $(Choice::$router($own) => $call),* }
            };
        }

        /// Constants of the chosen router.
        fn constants(choice: &Choice) -> Constants {
            match choice { $(Choice::$router(_) => Constants::of::<super::$module::Settings>($name)),* }
        }
    };
}

routers! {
    "percentile" => percentile::Percentile,
    "top-k" => top_k::TopK,
    "noisy-top-k" => noisy_top_k::NoisyTopK,
    "switch" => switch::Switch,
    "gshard" => gshard::GShard,
    "expert-choice" => expert_choice::ExpertChoice,
    "top-p" => top_p::TopP,
    "learned-k" => learned_k::LearnedK,
    "loss-free" => loss_free::LossFree,
    "top-any" => top_any::TopAny,
    "null-experts" => null_experts::NullExperts,
    "dense" => dense::Dense,
    "single" => single::Single,
}

/// What is constant for a router.
struct Constants {
    name: &'static str,
    about: About,
    losses: Option<Weights>,
    near_two: &'static [&'static str],
    keys: &'static [Key],
}

impl Constants {
    fn of<S: RouterSettings>(name: &'static str) -> Constants {
        Constants { name, about: S::ABOUT, losses: S::LOSSES, near_two: S::NEAR_TWO, keys: S::KEYS }
    }
}

impl Default for Settings {
    /// The first paper's: percentile, token scope.
    fn default() -> Settings {
        super::percentile::Settings::default().into()
    }
}

impl Settings {
    /// The default settings of a router.
    ///
    /// # Errors
    /// An unknown name.
    pub fn named(name: &str) -> Result<Settings> {
        let choice = default_choice(name).ok_or_else(|| {
            let near = nearest(name, NAMES.iter().copied()).unwrap_or_default();
            Error::config("router", format!("no router `{name}`; the nearest is `{near}`"))
        })?;
        Ok(Settings { choice, losses: losses::Settings::default() })
    }

    /// The default settings of every router.
    pub fn all() -> impl Iterator<Item = Settings> {
        NAMES.iter().filter_map(|name| Settings::named(name).ok())
    }

    /// Reads a table with the router's `name` (the default router's if missing) and its settings.
    ///
    /// # Errors
    /// An unknown router; a setting that it does not have; a value that is not valid.
    pub fn from_table(table: &toml::Table) -> Result<Settings> {
        let mut settings = match table.get("name") {
            None => Settings::default(),
            Some(toml::Value::String(name)) => Settings::named(name)?,
            Some(other) => {
                return Err(Error::config("router", format!("{other} is not the name of a router")));
            }
        };
        for (key, value) in table.iter().filter(|(key, _)| *key != "name") {
            settings.set(key, value)?;
        }
        Ok(settings)
    }

    /// Sets one setting of the chosen router.
    ///
    /// # Errors
    /// A setting that the router does not have; a value that is not valid.
    pub fn set(&mut self, key: &str, value: &toml::Value) -> Result<()> {
        let Constants { name, losses, keys, .. } = constants(&self.choice);
        let known = own!(&mut self.choice, own => own.set(key, value))?
            || (losses.is_some() && self.losses.set(key, value)?);
        if known {
            return Ok(());
        }
        let others: Vec<&str> =
            Settings::keys().filter(|other| other.1 == key).map(|other| other.0).collect();
        if others.is_empty() {
            let keys = keys.iter().chain(losses.map_or(&[][..], |_| losses::Settings::KEYS));
            let near = nearest(key, keys.map(|key| key.name)).map(|key| format!("; the nearest is `{key}`"));
            let near = near.unwrap_or_default();
            return Err(Error::config(key, format!("no such setting of router {name}{near}")));
        }
        Err(Error::config(key, format!("is a setting of router {}, not of {name}", others.join(", "))))
    }

    /// The router's name and all its settings, the common ones last.
    pub fn to_table(&self) -> toml::Table {
        self.values().into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }

    /// The same in the order of the documentation.
    pub fn values(&self) -> Vec<(&'static str, toml::Value)> {
        let mut values = vec![("name", toml::Value::from(self.name()))];
        values.extend(own!(&self.choice, own => own.values()));
        if constants(&self.choice).losses.is_some() {
            values.extend(self.losses.values());
        }
        values
    }

    /// All settings of all routers: router, name of the setting, what it means.
    pub fn keys() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        Settings::all().flat_map(|settings| {
            let Constants { name, losses, keys, .. } = constants(&settings.choice);
            let common = losses.map_or(&[][..], |_| losses::Settings::KEYS);
            keys.iter().chain(common).map(move |key| (name, key.name, key.doc))
        })
    }

    /// The settings that the router has beside the common ones.
    pub fn own_keys(&self) -> &'static [Key] {
        constants(&self.choice).keys
    }

    /// The router's name in settings.
    pub fn name(&self) -> &'static str {
        constants(&self.choice).name
    }

    /// The router's row in the table of routers.
    pub fn about(&self) -> About {
        constants(&self.choice).about
    }

    /// The weights of the common losses in the router's source; `None` if it cannot have them.
    pub fn published_losses(&self) -> Option<Weights> {
        constants(&self.choice).losses
    }

    /// `key=value` settings that bring the router as near as possible to two experts per token.
    pub fn near_two(&self) -> &'static [&'static str] {
        constants(&self.choice).near_two
    }

    /// The rule in words, and what it looks at.
    pub fn rule(&self) -> Rule {
        own!(&self.choice, own => own.rule())
    }

    /// The number of experts to create in a layer for which the schedule says `scheduled`.
    pub fn experts(&self, scheduled: usize) -> usize {
        own!(&self.choice, own => own.experts(scheduled))
    }

    /// What the router of a layer costs.
    pub fn cost(&self, layer: Layer) -> Cost {
        own!(&self.choice, own => own.cost(layer))
    }

    /// The router of a layer with initial parameters.
    pub fn router<F: Elem>(&self, layer: Layer, init: &mut Init) -> Box<dyn Router<F>> {
        let weights = self.losses.weights(self.published_losses().unwrap_or_default());
        own!(&self.choice, own => Box::new(own.build(layer, weights, init)))
    }

    /// What the tests of all routers expect of this one.
    #[cfg(test)]
    pub(super) fn expect(&self) -> Expect {
        own!(&self.choice, own => own.expect())
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.values() {
            map.serialize_entry(key, &value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Settings, D::Error> {
        Settings::from_table(&toml::Table::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> toml::Table {
        text.parse().unwrap()
    }

    fn refusal(text: &str) -> String {
        Settings::from_table(&table(text)).unwrap_err().to_string()
    }

    #[test]
    fn settings_of_every_router_can_be_read_back() {
        for settings in variants() {
            assert_eq!(Settings::from_table(&settings.to_table()).unwrap(), settings);
            let text = toml::to_string(&settings).unwrap();
            assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings, "{text}");
            assert!(text.starts_with(&format!("name = \"{}\"\n", settings.name())), "{text}");
        }
        assert_eq!(Settings::from_table(&table("")).unwrap(), Settings::default());
        let top_k = Settings::from_table(&table("name = \"top-k\"\nk = 3\nz_loss = 1")).unwrap();
        assert_eq!(
            top_k.to_table().to_string(),
            "balance_loss = \"auto\"\nentropy_loss = \"auto\"\nk = 3\nname = \"top-k\"\nz_loss = 1.0\n"
        );
    }

    #[test]
    fn every_setting_is_documented_and_refuses_a_value_of_another_type() {
        for (router, key, doc) in Settings::keys() {
            assert!(doc.ends_with('.') && doc.len() > 10, "{router} {key}: {doc}");
            let mut settings = Settings::named(router).unwrap();
            let error = settings.set(key, &toml::Value::Array(Vec::new())).unwrap_err().to_string();
            assert!(error.starts_with(&format!("setting {key}: [] ")), "{error}");
        }
    }

    #[test]
    fn what_is_not_valid_is_refused_by_name() {
        for (text, part) in [
            ("name = \"top-kk\"", "no router `top-kk`; the nearest is `top-k`"),
            ("name = 1", "1 is not the name of a router"),
            (
                "name = \"top-p\"\nmas = 1",
                "setting mas: no such setting of router top-p; the nearest is `mass`",
            ),
            ("tau = 1.5", "setting tau: 1.5"),
            ("name = \"top-p\"\ntau = 0.5", "setting tau: is a setting of router percentile, not of top-p"),
            ("name = \"single\"\nz_loss = 1", "of router percentile, top-k,"),
            ("name = \"top-k\"\nk = 2.5", "setting k: 2.5"),
            ("name = \"top-k\"\nk = 0", "\"auto\", or 1 to 4096"),
            ("name = \"switch\"\ncapacity_factor = 0", "\"auto\", or a number above 0"),
            ("balance_loss = -1", "\"auto\", or 0 (off) or more"),
            ("percentile_scope = \"layer\"", "\"token\" or \"batch\""),
        ] {
            assert!(refusal(text).contains(part), "{text}: {}", refusal(text));
        }
    }
}
