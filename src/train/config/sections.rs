//! The sections of a configuration: every setting with its type, default and valid values.

use super::section::{Section, is_0_or_more, section};
use crate::data::text::TokenizerKind;
use crate::engine::kernels::attention::Heads;
use crate::nn::optim;
use crate::nn::optim::rate::RateSchedule;
use crate::nn::router::OrAuto;
use crate::nn::schedule::Schedule;
use crate::nn::spec::Norm;

use super::{Match, Network};

section! {
    /// `[data]`: what is trained on.
    DataSettings {
        /// A data set's name, or the path of a text.
        dataset: String = "digits".into(), "a data set's name or the path of a text";
        /// Text: how it is cut into tokens.
        tokenizer: TokenizerKind = TokenizerKind::Gpt2, "\"gpt2\", \"bytes\", \"chars\" or \"numbers\"";
        /// Text: the most tokens that a sequence predicts.
        sequence: usize = 128, "1 to 65536" if (1..=1 << 16).contains(sequence);
        /// Text: join documents, so that every sequence is full.
        pack: bool = false, "true or false";
    }
}

section! {
    /// `[model]`: the network, but for its routers.
    ModelSettings {
        /// Which network. `model = ..` without a section means this.
        kind: Network = Network::Dynamoe, "\"dynamoe\", \"mlp\" or \"transformer\"";
        /// MLP: what it has in common with the DynaMoE network of the same settings.
        match_by: Match = Match::Parameters, "\"parameters\" or \"flops\"";
        /// Number of layers L.
        layers: usize = 4, "1 to 1000" if (1..=1000).contains(layers);
        /// Width d of the tokens.
        width: usize = 128, "1 to 65536" if (1..=65_536).contains(width);
        /// Hidden width of an expert; "auto" is `width / 2`, in a Transformer `width`.
        expert_hidden: OrAuto<usize> = OrAuto::AUTO, "\"auto\" or 1 to 1048576"
            if matches!(expert_hidden, OrAuto::Auto(_) | OrAuto::Set(1..=1_048_576));
        /// How the number of experts depends on the layer.
        schedule: Schedule = Schedule::Descending,
            "descending, ascending, pyramid-up, pyramid-down, wave-up, wave-down, uniform, custom or learned";
        /// The most experts of a layer.
        experts_max: usize = 8, "1 to 4096" if (1..=4096).contains(experts_max);
        /// The fewest experts of a layer.
        experts_min: usize = 1, "1 to 4096" if (1..=4096).contains(experts_min);
        /// Experts of each layer: a list for `schedule = "custom"`; "auto" is what the schedule gives.
        experts: OrAuto<Vec<usize>> = OrAuto::AUTO, "\"auto\" or a list of numbers from 1 to 4096, one for each layer"
            if match experts {
                OrAuto::Auto(_) => true,
                OrAuto::Set(list) => !list.is_empty() && list.iter().all(|e| (1..=4096).contains(e)),
            };
        /// Where layer normalization is; always "pre" in a Transformer.
        norm: Norm = Norm::Final, "\"final\", \"post\" or \"pre\"";
        /// Transformer: query heads; "auto" is one for each 32 of `width`.
        heads: OrAuto<usize> = OrAuto::AUTO, "\"auto\" or 1 to 65536"
            if matches!(heads, OrAuto::Auto(_) | OrAuto::Set(1..=65_536));
        /// Transformer: key and value heads; "auto" is as many as `heads`.
        kv_heads: OrAuto<usize> = OrAuto::AUTO, "\"auto\" or a divisor of heads"
            if matches!(kv_heads, OrAuto::Auto(_) | OrAuto::Set(1..=65_536));
        /// Transformer: the base of the rotary angles.
        rope_theta: f64 = 10_000.0, "above 1" if rope_theta.is_finite() && *rope_theta > 1.0;
        /// Transformer: the epsilon of RMSNorm.
        rms_eps: f64 = 1e-5, "above 0 and below 1" if *rms_eps > 0.0 && *rms_eps < 1.0;
        /// Text: use the embedding as the head's weight, too.
        tie: bool = false, "true or false";
    }
}

section! {
    /// `[optimizer]`: how gradients become steps.
    OptimizerSettings {
        /// Which optimizer. `optimizer = ..` without a section means this.
        name: optim::Kind = optim::Kind::AdamW, "\"adam-w\" or \"sgd\"";
        /// The learning rate.
        lr: f64 = 1e-3, "a finite number above 0" if lr.is_finite() && *lr > 0.0;
        /// How the learning rate changes after warm-up.
        lr_schedule: RateSchedule = RateSchedule::Cosine, "\"cosine\" or \"constant\"";
        /// Steps of linear warm-up.
        warmup_steps: u64 = 0, "a whole number from 0";
        /// Weight decay per step, as a multiple of the learning rate.
        weight_decay: f64 = 0.01, "0 or more" if is_0_or_more(*weight_decay);
        /// AdamW's first decay, or SGD's momentum.
        beta1: f64 = 0.9, "from 0 to below 1" if (0.0..1.0).contains(beta1);
        /// AdamW's second decay.
        beta2: f64 = 0.999, "from 0 to below 1" if (0.0..1.0).contains(beta2);
        /// Largest global norm of the gradients; 0 for no clipping.
        clip_norm: f64 = 0.0, "0 (off) or more" if is_0_or_more(*clip_norm);
    }
}

section! {
    /// `[train]`: batches, length and digests of a training.
    TrainSettings {
        /// Seed of all random numbers of the run.
        seed: u64 = 1, "0 to 2^63 - 1" if i64::try_from(*seed).is_ok();
        /// Images or sequences per batch.
        batch: usize = 256, "1 to 1048576" if (1..=1 << 20).contains(batch);
        /// Batches whose gradients are summed for one step.
        accumulate: usize = 1, "1 to 1048576" if (1..=1 << 20).contains(accumulate);
        /// Passes over the training set.
        epochs: usize = 20, "1 to 1000000" if (1..=1_000_000).contains(epochs);
        /// Stop after this many steps; 0 for no limit.
        max_steps: u64 = 0, "0 (no limit) or more";
        /// Record a digest of the state every so many steps and at the end of every epoch; 0 for none.
        digest_every: u64 = 100, "0 (none) or more";
    }
}

impl ModelSettings {
    /// The attention's heads.
    pub fn heads(&self) -> Heads {
        let count = match self.heads {
            OrAuto::Auto(_) => (self.width / 32).max(1),
            OrAuto::Set(count) => count,
        };
        let groups = match self.kv_heads {
            OrAuto::Auto(_) => count,
            OrAuto::Set(groups) => groups,
        };
        Heads { count, groups, width: self.width / count }
    }

    /// The experts' hidden width.
    pub fn hidden(&self) -> usize {
        match (&self.expert_hidden, self.kind) {
            (OrAuto::Set(hidden), _) => *hidden,
            (OrAuto::Auto(_), Network::Transformer) => self.width,
            (OrAuto::Auto(_), _) => (self.width / 2).max(1),
        }
    }

    /// Experts that the schedule gives each layer; none of a learned schedule that is not known yet, and of a custom one
    /// without a list.
    pub fn experts(&self) -> Option<Vec<usize>> {
        match (&self.experts, self.schedule) {
            (OrAuto::Set(list), Schedule::Custom | Schedule::Learned) => Some(list.clone()),
            (OrAuto::Auto(_), Schedule::Custom | Schedule::Learned) => None,
            (_, schedule) => Some(schedule.experts(self.layers, self.experts_min, self.experts_max)),
        }
    }
}
