//! Settings that do not go together.

use super::section::Section;
use super::{Config, Network};
use crate::data::{self, catalog};
use crate::engine::error::{Error, Result, require};
use crate::engine::kernels::attention::Heads;
use crate::nn::router::Sees;
use crate::nn::schedule::Schedule;
use crate::nn::spec::Norm;

impl Config {
    /// Refuses values out of range and settings that do not go together.
    pub(super) fn check(&self) -> Result<()> {
        let Config { data, model, router, optimizer, train } = self;
        data.check()?;
        model.check()?;
        optimizer.check()?;
        train.check()?;
        let refuse = |key: &str, is_wrong: bool, why: &str| match is_wrong {
            true => Err(Error::config(key, why)),
            false => Ok(()),
        };
        catalog::check(&data.dataset)?;
        let (min, max) = (model.experts_min, model.experts_max);
        require("experts_min", min <= max, &min, &format!("1 to experts_max, which is {max}"))?;
        let given = matches!(model.schedule, Schedule::Custom | Schedule::Learned);
        if given && let Some(list) = model.experts() {
            let need = format!("a list of {} numbers from 1 to 4096, one for each layer", model.layers);
            require("experts", list.len() == model.layers, &format!("{list:?}"), &need)?;
        }
        let need = "schedule = \"custom\" needs a list, one number for each layer, such as [8, 4, 4, 2]";
        refuse("experts", model.schedule == Schedule::Custom && model.experts().is_none(), need)?;
        if model.kind == Network::Transformer {
            let why = format!("a Transformer is for text, and {} is images", data.dataset);
            refuse("model", !self.is_text(), &why)?;
            refuse("norm", model.norm != Norm::Pre, "a Transformer has norm = \"pre\"")?;
            let Heads { count, groups, width } = model.heads();
            let need = "a number that divides width into an even number for each head";
            require("heads", count * width == model.width && width.is_multiple_of(2), &count, need)?;
            require("kv_heads", count.is_multiple_of(groups), &groups, "a divisor of heads")?;
        }
        let rule = router.rule();
        let ahead = self.is_text() && model.kind != Network::Mlp && rule.inference == Sees::All;
        let why = format!(
            "{} is not causal, so it cannot be used for language modeling ({})",
            router.name(),
            rule.looks_across()
        );
        refuse("router", ahead, &why)?;
        self.checked_spec(1, 1).map(drop)
    }

    /// Why a setting has no meaning in this configuration, if it has none.
    pub(super) fn inapplicable(&self, key: &str) -> Option<String> {
        let is_transformer = self.model.kind == Network::Transformer;
        match key {
            "tokenizer" | "sequence" | "pack" | "tie" if !self.is_text() => {
                Some(format!("is for text, and {} is images", self.data.dataset))
            }
            "heads" | "kv_heads" | "rope_theta" | "rms_eps" if !is_transformer => {
                Some("is for model = \"transformer\"".into())
            }
            "match_by" if self.model.kind != Network::Mlp => Some("is for model = \"mlp\"".into()),
            _ => None,
        }
    }

    /// Whether it is trained on text.
    pub fn is_text(&self) -> bool {
        data::is_text(&self.data.dataset)
    }
}
