//! Text from a trained network, token by token.

use crate::engine::arr::{self, Arr};
use crate::engine::error::{Error, Result, require};
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::kernels::{select, softmax};
use crate::engine::tape::{Mode, Tape};
use crate::nn::model::Memory;
use crate::nn::moe::Dispatch;
use crate::nn::router::Sees;
use crate::nn::{Feed, Model, Phase, Tokens};

/// How the next token is sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divisor of the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Sample from this many most likely tokens; 0 for all.
    pub top_k: usize,
    /// Sample from the fewest most likely tokens that have this share of the probability.
    pub top_p: f64,
    /// Sample from the ids below this one; the others stand for no text.
    pub below: usize,
    /// Seed of the sampling.
    pub seed: u64,
}

impl Sampling {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// Such a value, with the range.
    pub fn check(&self) -> Result<()> {
        let Sampling { temperature, top_p, .. } = *self;
        let fits = temperature.is_finite() && temperature >= 0.0;
        require("temperature", fits, &temperature, "0 (the most likely token) or more")?;
        require("top-p", top_p > 0.0 && top_p <= 1.0, &top_p, "above 0, up to 1")
    }

    /// The token at `position`, from its logits. Of equally likely tokens the lower id comes first.
    pub fn pick(&self, logits: &[f32], position: u64) -> u32 {
        let logits = &logits[..self.below.clamp(1, logits.len())];
        if self.temperature == 0.0 {
            return select::argmax(logits) as u32;
        }
        // Relative to the largest, so that no temperature overflows.
        let largest = f64::from(logits[select::argmax(logits)]);
        let scaled = |&l: &f32| ((f64::from(l) - largest) / self.temperature).max(f64::from(f32::MIN)) as f32;
        let scaled: Vec<f32> = logits.iter().map(scaled).collect();
        let mut probabilities = vec![0.0; scaled.len()];
        softmax::softmax_row(&scaled, &mut probabilities);
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let likelier = |a: &u32, b: &u32| {
            probabilities[*b as usize].total_cmp(&probabilities[*a as usize]).then(a.cmp(b))
        };
        let count = if self.top_k == 0 { order.len() } else { self.top_k.min(order.len()) };
        if count < order.len() {
            order.select_nth_unstable_by(count, likelier);
            order.truncate(count);
        }
        if count < logits.len() || self.top_p < 1.0 {
            order.sort_unstable_by(likelier);
        }
        let p = |id: &u32| f64::from(probabilities[*id as usize]);
        let mut total: f64 = order.iter().map(p).sum();
        if self.top_p < 1.0 {
            let (mut kept, mut sum) = (0, 0.0);
            while kept < order.len() && sum < self.top_p * total {
                sum += p(&order[kept]);
                kept += 1;
            }
            order.truncate(kept);
            total = sum;
        }
        let mut draw = [0.0f64];
        Stream::new(self.seed, Purpose::Sample, 0, position).unit(&mut draw);
        let (mut left, mut last) = (draw[0] * total, order[0]);
        for id in &order {
            last = *id;
            left -= p(id);
            if left < 0.0 {
                break;
            }
        }
        last
    }
}

/// A token with the experts it used.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// The token.
    pub id: u32,
    /// Its experts in each layer, rising.
    pub experts: Vec<Vec<u16>>,
}

/// A sequence that a network continues.
pub struct Writer<'a> {
    model: &'a Model<f32>,
    /// Keys and values; none to recompute the whole sequence for each token.
    memory: Option<Memory<f32>>,
    /// The longest context.
    window: usize,
    /// The tokens that the next one depends on.
    context: Vec<u32>,
    /// Tokens of the context that the memory has seen.
    seen: usize,
    /// Tokens at the end of the context whose experts were not reported yet.
    unread: usize,
    /// Tokens generated so far; the random numbers depend on it.
    count: u64,
}

impl<'a> Writer<'a> {
    /// A sequence that begins with `prompt`. Its context has at most `window` tokens: when it is full, the later half is
    /// kept. Without `cached`, the context is recomputed for each token; the text is the same.
    ///
    /// # Errors
    /// No prompt, a network for images.
    pub fn new(model: &'a Model<f32>, prompt: &[u32], window: usize, cached: bool) -> Result<Writer<'a>> {
        if prompt.is_empty() {
            return Err(Error::config("prompt", "is empty; give at least one token"));
        }
        // If a token's experts depend on other tokens, a cache would change them.
        let alone = model.spec().rule().inference == Sees::Itself;
        let memory = (cached && alone).then(|| model.memory());
        let (window, context, unread) = (window.max(2), prompt.to_vec(), prompt.len());
        let mut writer = Writer { model, memory, window, context, seen: 0, unread, count: 0 };
        writer.shorten();
        Ok(writer)
    }

    /// Keeps the context within the window.
    fn shorten(&mut self) {
        if self.context.len() > self.window {
            let keep = self.window.div_ceil(2);
            self.context.drain(..self.context.len() - keep);
            (self.seen, self.unread) = (0, self.unread.min(keep));
            self.memory = self.memory.take().map(|_| self.model.memory());
        }
    }

    /// The next token; `read` is called with the experts of each context token that is processed for the first time.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub fn next(&mut self, sampling: &Sampling, read: &mut dyn FnMut(Step)) -> Result<u32> {
        let logits = self.read(read)?;
        let id = sampling.pick(arr::data(&logits), self.count);
        self.count += 1;
        self.context.push(id);
        self.unread = 1;
        self.shorten();
        Ok(id)
    }

    /// Processes the last token, for its experts.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub fn finish(mut self, read: &mut dyn FnMut(Step)) -> Result<()> {
        self.read(read).map(drop)
    }

    /// The logits after the context; `read` is called with the experts of each token not reported yet.
    fn read(&mut self, read: &mut dyn FnMut(Step)) -> Result<Arr<f32>> {
        let tape = Tape::new(Mode::Infer);
        let new = &self.context[self.seen..];
        let (h, dispatch, first) = match &mut self.memory {
            Some(memory) => {
                let (h, dispatch) = self.model.extend(&tape, new, memory)?;
                (h, dispatch, 0)
            }
            None => {
                let starts = [0, self.context.len()].into();
                let feed = Feed::Tokens(Tokens { ids: self.context[..].into(), starts });
                let (h, dispatch) = self.model.hidden(&tape, &feed, Phase::Eval)?;
                (h, dispatch, self.seen)
            }
        };
        for (t, &id) in new.iter().enumerate().skip(new.len() - self.unread) {
            let experts = |layer: &Dispatch<f32>| layer.routes.experts_of(first + t);
            read(Step { id, experts: dispatch.iter().map(experts).collect() });
        }
        let rows = h.shape()[0];
        let logits = self.model.logits(h.slice(0, rows - 1..rows))?.value();
        if !arr::data(&logits).iter().all(|v| v.is_finite()) {
            return Err(Error::config("run", "the network's logits are not finite: training diverged"));
        }
        (self.seen, self.unread) = (self.context.len(), 0);
        Ok(logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Init;
    use crate::train::config::{Config, Sources};

    const PLAIN: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, below: usize::MAX, seed: 1 };

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.5f32, 2.0, f32::MIN, 1.0];
        let mut counts = [0u32; 4];
        (0..4000).for_each(|i| counts[PLAIN.pick(&logits, i) as usize] += 1);
        let weights = [0.5f64, 2.0, -1e30, 1.0].map(libm::exp);
        for (count, weight) in counts.into_iter().zip(weights) {
            let expected = 4000.0 * weight / weights.iter().sum::<f64>();
            assert!((f64::from(count) - expected).abs() <= 4.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn the_likeliest_alone_are_drawn_from() {
        let logits = [1.0f32, 3.0, 3.0, 2.0, 0.0];
        let drawn = |sampling: Sampling| -> std::collections::BTreeSet<u32> {
            (0..300).map(|i| sampling.pick(&logits, i)).collect()
        };
        assert_eq!(drawn(Sampling { temperature: 0.0, ..PLAIN }), [1].into());
        assert_eq!(drawn(Sampling { top_k: 1, ..PLAIN }), [1].into());
        for temperature in [1e-3, 1e-50, f64::MIN_POSITIVE] {
            let cold = Sampling { temperature, ..PLAIN };
            assert_eq!(drawn(cold), [1, 2].into(), "the two are alike");
            assert_eq!(drawn(Sampling { top_p: 0.4, ..cold }), [1].into());
        }
        assert_eq!(drawn(Sampling { top_k: 3, ..PLAIN }), [1, 2, 3].into());
        // The two likeliest have 0.76 of the probability.
        assert_eq!(drawn(Sampling { top_p: 0.7, ..PLAIN }), [1, 2].into());
        assert_eq!(drawn(PLAIN).len(), 5);
        assert_eq!(drawn(Sampling { below: 2, ..PLAIN }), [0, 1].into());
    }

    fn model(settings: &[&str]) -> Model<f32> {
        let set = ["dataset=tinyshakespeare", "tokenizer=bytes", "layers=2", "width=32", "experts_max=4"];
        let set = set.iter().chain(settings).map(|s| s.to_string()).collect();
        let config = Config::resolve(&Sources { set, ..Sources::default() }).unwrap();
        Model::new(&config.spec(0, 256), &mut Init::new(1))
    }

    fn write(model: &Model<f32>, window: usize, cached: bool) -> (Vec<u32>, Vec<Step>) {
        let mut writer = Writer::new(model, b"Once".map(u32::from).as_slice(), window, cached).unwrap();
        let mut read = Vec::new();
        let ids = (0..40).map(|_| writer.next(&PLAIN, &mut |step| read.push(step)).unwrap()).collect();
        writer.finish(&mut |step| read.push(step)).unwrap();
        (ids, read)
    }

    #[test]
    fn text_is_the_same_with_and_without_the_cache() {
        for settings in [
            &["model=transformer"][..],
            &["model=transformer", "router=top-p", "kv_heads=1", "heads=2", "tie=true"],
            &["model=transformer", "router=switch"],
            &["router=learned-k"],
        ] {
            let model = model(settings);
            for window in [16, 1000] {
                let (cached, plain) = (write(&model, window, true), write(&model, window, false));
                assert_eq!(cached, plain, "{settings:?} {window}");
                assert_eq!(cached.1.len(), 4 + 40);
            }
            let (short, long) = (write(&model, 16, true).0, write(&model, 1000, true).0);
            assert_eq!(short[..12], long[..12]);
        }
    }

    #[test]
    fn logits_are_equal_to_the_bit_in_whatever_parts_a_sequence_comes() {
        let model = model(&["model=transformer", "router=top-p"]);
        let ids: Vec<u32> = (0..70).map(|i| i * i % 251).collect();
        let tape = Tape::new(Mode::Infer);
        let feed = Feed::Tokens(Tokens { ids: ids[..].into(), starts: [0, ids.len()].into() });
        let (h, _) = model.hidden(&tape, &feed, Phase::Eval).unwrap();
        let whole = arr::data(&model.logits(h).unwrap().value()).to_vec();
        for size in [1, 7, 64] {
            let (mut memory, mut parts) = (model.memory(), Vec::new());
            for part in ids.chunks(size) {
                let (h, _) = model.extend(&tape, part, &mut memory).unwrap();
                parts.extend_from_slice(arr::data(&model.logits(h).unwrap().value()));
            }
            assert!(whole.iter().zip(&parts).all(|(a, b)| a.to_bits() == b.to_bits()), "{size}");
        }
    }

    #[test]
    fn impossible_settings_are_refused() {
        let refusal = |sampling: Sampling| sampling.check().unwrap_err().to_string();
        assert!(refusal(Sampling { temperature: -1.0, ..PLAIN }).contains("temperature: -1"));
        assert!(refusal(Sampling { top_p: 0.0, ..PLAIN }).contains("top-p: 0"));
        PLAIN.check().unwrap();
        assert!(Writer::new(&model(&[]), &[], 8, true).is_err());
    }
}
