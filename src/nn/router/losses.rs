//! The losses that any router can have beside the task's.
//!
//! With scores `u_ti` (a softmax router's `e^logit`, a sigmoid router's sigmoid), `P_ti = u_ti / sum_j u_tj`,
//! T tokens and E experts:
//! - balance: `E sum_i f_i Q_i`, where `f_i` is the share of tokens that choose expert i (a constant) and
//!   `Q_i` the mean of `P_ti` over tokens. (Fedus et al., Switch Transformers, section 2.2; with several
//!   experts per token Huang et al., Harder Tasks Need More Experts.)
//! - z: the mean over tokens of `ln(sum_i u_ti)^2`: it keeps logits small. (Zoph et al., ST-MoE, section 3.)
//! - entropy: the mean over tokens of `-sum_i P_ti ln P_ti`: it makes routers decide. (Huang et al., as the
//!   dynamic loss.)

use super::settings::Settings;
use crate::engine::arr;
use crate::engine::kernels::elem::Elem;
use crate::engine::tape::Var;
use crate::nn::Phase;

/// Losses by name, each one number, already weighted.
pub type Losses<'t, F> = Vec<(&'static str, Var<'t, F>)>;

/// Weights of the losses; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weights {
    /// Of the balance loss.
    pub balance: f64,
    /// Of the z-loss.
    pub z: f64,
    /// Of the entropy loss.
    pub entropy: f64,
}

impl Weights {
    /// What the settings say; where they say "auto", what the router has of its `own`.
    pub fn new(settings: &Settings, own: Weights) -> Weights {
        Weights {
            balance: settings.balance_loss.or(own.balance),
            z: settings.z_loss.or(own.z),
            entropy: settings.entropy_loss.or(own.entropy),
        }
    }

    /// The losses of a training batch, from the logarithms of the scores (T, E) and the choice before any
    /// limit on room; none at inference and where there are no tokens.
    pub fn losses<'t, F: Elem>(
        &self,
        log_scores: impl FnOnce() -> Var<'t, F>,
        chosen: &[bool],
        phase: Phase,
    ) -> Losses<'t, F> {
        let mut losses = Vec::new();
        if phase == Phase::Eval || *self == Weights::default() || chosen.is_empty() {
            return losses;
        }
        let log_scores = log_scores();
        let experts = log_scores.shape()[1];
        if self.balance > 0.0 {
            let shares = log_scores.tape().constant(shares(chosen, experts));
            let balance = log_scores.softmax().mean_axes(&[0]).mul(shares).sum();
            losses.push(("balance", balance.scale(self.balance * experts as f64)));
        }
        if self.z > 0.0 {
            // In every column of a row stands the logarithm of the row's sum.
            let log_sums = log_scores.sub(log_scores.log_softmax()).slice(1, 0..1);
            losses.push(("z", log_sums.powi(2).mean().scale(self.z)));
        }
        if self.entropy > 0.0 {
            let sums = log_scores.softmax().mul(log_scores.log_softmax()).sum_axes(&[1]);
            losses.push(("entropy", sums.mean().scale(-self.entropy)));
        }
        losses
    }
}

/// The share of tokens that choose each expert.
fn shares<F: Elem>(chosen: &[bool], experts: usize) -> arr::Arr<F> {
    let mut counts = vec![0u32; experts];
    for row in chosen.chunks_exact(experts) {
        counts.iter_mut().zip(row).for_each(|(count, &chosen)| *count += u32::from(chosen));
    }
    let tokens = (chosen.len() / experts) as f64;
    arr::from_vec(&[experts], counts.into_iter().map(|c| F::of(f64::from(c) / tokens)).collect())
}
