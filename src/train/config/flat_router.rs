//! The settings of all routers as flat keys of a configuration, of which each router reads its own.

use serde::{Deserialize, Serialize};

use crate::engine::error::{Result, require};
use crate::nn::router::{self, OrAuto, percentile::Scope};

/// How experts are chosen and weighed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlatRouter {
    /// Which router.
    #[serde(rename = "router")]
    pub name: String,
    /// percentile: over which gates the percentile is taken.
    #[serde(rename = "percentile_scope")]
    pub scope: Scope,
    /// percentile: the percentile above which experts are active, 0 to 1.
    pub tau: f64,
    /// percentile: temperature of the weights over the active experts.
    pub temperature: f64,
    /// percentile: standard deviation of the noise on the gates in training.
    pub noise: f64,
    /// top-k, loss-free (2 unless set), noisy-top-k (4): experts per token. A layer with fewer uses all it has.
    pub k: OrAuto<usize>,
    /// top-p: the probability that the chosen experts must reach together, above 0 to 1.
    pub mass: f64,
    /// switch (1.25 in training and 2 at inference unless set), gshard (2): room in each expert, as a multiple of
    /// tokens over experts; expert-choice (2): mean number of experts per token.
    pub capacity_factor: OrAuto<f64>,
    /// learned-k: mean number of experts per token to aim at.
    pub target_k: f64,
    /// learned-k: steps over which it turns from trying all counts to deciding.
    pub anneal_steps: u64,
    /// Factor on the losses that only this router has (noisy-top-k, learned-k, top-any); 0 switches them off.
    pub own_losses: f64,
    /// Weight of the loss for an even use of experts, see [`crate::nn::router::losses`]; any router but single.
    pub balance_loss: OrAuto<f64>,
    /// Weight of the loss for small logits; any router but single.
    pub z_loss: OrAuto<f64>,
    /// Weight of the loss for decided routers; any router but single.
    pub entropy_loss: OrAuto<f64>,
}

impl FlatRouter {
    /// The first paper's: percentile, token scope.
    fn initial() -> FlatRouter {
        FlatRouter {
            name: "percentile".into(),
            scope: Scope::Token,
            tau: 0.7,
            temperature: 0.5,
            noise: 0.1,
            k: OrAuto::AUTO,
            mass: 0.4,
            capacity_factor: OrAuto::AUTO,
            target_k: 2.58,
            anneal_steps: 1000,
            own_losses: 1.0,
            balance_loss: OrAuto::AUTO,
            z_loss: OrAuto::AUTO,
            entropy_loss: OrAuto::AUTO,
        }
    }

    /// The settings of the router that is chosen.
    ///
    /// # Errors
    /// An unknown router.
    pub fn settings(&self) -> Result<router::Settings> {
        let mut table = toml::Table::try_from(self).expect("settings are a table");
        table.remove("router");
        let mut settings = router::Settings::named(&self.name)?;
        let own = router::Settings::keys().filter(|key| key.0 == self.name);
        for (_, key, _) in own {
            if let Some(value) = table.get(key) {
                settings.set(key, value)?;
            }
        }
        Ok(settings)
    }

    /// Refuses settings that cannot be, whichever router is chosen.
    ///
    /// # Errors
    /// The setting's name and what it may be.
    pub fn check(&self) -> Result<()> {
        require("tau", (0.0..=1.0).contains(&self.tau), &self.tau, "from 0 to 1")?;
        require("mass", self.mass > 0.0 && self.mass <= 1.0, &self.mass, "above 0, to 1")?;
        let positive = |key: &str, v: f64, need: &str| require(key, v.is_finite() && v > 0.0, &v, need);
        positive("temperature", self.temperature, "above 0")?;
        positive("capacity_factor", self.capacity_factor.or(1.0), "\"auto\", or above 0")?;
        require("target_k", self.target_k.is_finite() && self.target_k >= 1.0, &self.target_k, "1 or more")?;
        let k = self.k.or(1);
        require("k", (1..=4096).contains(&k), &k, "\"auto\", or 1 to 4096")?;
        let weights = [
            ("balance_loss", self.balance_loss),
            ("z_loss", self.z_loss),
            ("entropy_loss", self.entropy_loss),
        ];
        let not_negative = |key: &str, v: f64, need: &str| require(key, v.is_finite() && v >= 0.0, &v, need);
        not_negative("noise", self.noise, "0 or more")?;
        not_negative("own_losses", self.own_losses, "0 or more")?;
        for (key, weight) in weights {
            not_negative(key, weight.or(0.0), "\"auto\", or 0 (off) or more")?;
        }
        self.settings().map(drop)
    }
}

impl Default for FlatRouter {
    fn default() -> FlatRouter {
        FlatRouter::initial()
    }
}
