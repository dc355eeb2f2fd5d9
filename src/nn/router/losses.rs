//! The auxiliary losses that every router can have.
//!
//! With scores `u_ti` (a softmax router's `e^logit`, a sigmoid router's sigmoid), `P_ti = u_ti / sum_j u_tj`,
//! T tokens and E experts:
//! - balance: `E sum_i f_i Q_i`, where `f_i` is the share of tokens that choose expert i (a constant) and
//!   `Q_i` the mean of `P_ti` over tokens. (Fedus et al., Switch Transformers, section 2.2; with several
//!   experts per token Huang et al., Harder Tasks Need More Experts.)
//! - z: the mean over tokens of `ln(sum_i u_ti)^2`: it keeps logits small. (Zoph et al., ST-MoE, section 3.)
//! - entropy: the mean over tokens of `-sum_i P_ti ln P_ti`: it makes routers decide. (Huang et al., as the
//!   dynamic loss.)

use super::settings::{OrAuto, is_0_or_more, settings};
use crate::engine::arr::{self, Arr};
use crate::engine::kernels::elem::Elem;
use crate::engine::tape::Var;
use crate::nn::phase::Phase;

settings! {
    /// Weight of the loss for an even use of the experts.
    balance_loss: OrAuto<f64> = OrAuto::AUTO, "\"auto\", or 0 (off) or more" if is_0_or_more(balance_loss.or(0.0));
    /// Weight of the loss for small logits.
    z_loss: OrAuto<f64> = OrAuto::AUTO, "\"auto\", or 0 (off) or more" if is_0_or_more(z_loss.or(0.0));
    /// Weight of the loss for decided routers.
    entropy_loss: OrAuto<f64> = OrAuto::AUTO, "\"auto\", or 0 (off) or more" if is_0_or_more(entropy_loss.or(0.0));
}

impl Settings {
    /// The weights; where a setting is automatic, the router's `own`.
    pub fn weights(&self, own: Weights) -> Weights {
        Weights {
            balance: self.balance_loss.or(own.balance),
            z: self.z_loss.or(own.z),
            entropy: self.entropy_loss.or(own.entropy),
        }
    }
}

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
    /// No losses.
    pub const NONE: Weights = Weights { balance: 0.0, z: 0.0, entropy: 0.0 };

    /// The losses of a training batch, from the logarithms of the scores (T, E) and the choice before any
    /// limit of capacity; none at inference and for empty batches.
    pub fn losses<'t, F: Elem>(
        &self,
        log_scores: impl FnOnce() -> Var<'t, F>,
        chosen: &[bool],
        phase: Phase,
    ) -> Losses<'t, F> {
        self.losses_with(log_scores, chosen, phase, |_| ())
    }

    /// The same with the shares `f_i` of the balance loss as `adjust` leaves them.
    pub fn losses_with<'t, F: Elem>(
        &self,
        log_scores: impl FnOnce() -> Var<'t, F>,
        chosen: &[bool],
        phase: Phase,
        adjust: impl FnOnce(&mut [f64]),
    ) -> Losses<'t, F> {
        let mut losses = Vec::new();
        if phase == Phase::Eval || *self == Weights::NONE || chosen.is_empty() {
            return losses;
        }
        let log_scores = log_scores();
        let experts = log_scores.shape()[1];
        if self.balance > 0.0 {
            let mut shares = shares(chosen, experts);
            adjust(&mut shares);
            let shares: Arr<F> = arr::from_vec(&[experts], shares.into_iter().map(F::of).collect());
            let balance = log_scores.softmax().mean_axes(&[0]).mul(log_scores.tape().constant(shares)).sum();
            losses.push(("balance", balance.scale(self.balance * experts as f64)));
        }
        if self.z > 0.0 {
            // The difference is the logarithm of the row's sum, equal in every column.
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
fn shares(chosen: &[bool], experts: usize) -> Vec<f64> {
    let mut counts = vec![0u32; experts];
    for row in chosen.chunks_exact(experts) {
        counts.iter_mut().zip(row).for_each(|(count, &chosen)| *count += u32::from(chosen));
    }
    let tokens = (chosen.len() / experts) as f64;
    counts.into_iter().map(|count| f64::from(count) / tokens).collect()
}
