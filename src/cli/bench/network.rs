//! The network of the benchmarks and its random data.

use anyhow::{Result, ensure};

use crate::engine::arr::{self, Arr};
use crate::engine::error::{Error, nearest, require};
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::tape::{Mode, Tape};
use crate::nn::optim::{Optimizer, Settings};
use crate::nn::spec::Spec;
use crate::nn::usage::Usage;
use crate::nn::{Init, Model, Phase};
use crate::train::config::{Config, PRESETS, Sources};
use crate::train::{State, step};

/// Seed of every random number.
const SEED: u64 = 1;

/// Which network to measure, and on how much data.
#[derive(Clone, Debug)]
pub struct Shape<'a> {
    /// A preset's name: layers and width.
    pub size: &'a str,
    /// Images in a batch.
    pub batch: usize,
    /// Numbers in an image.
    pub input: usize,
    /// Classes.
    pub classes: usize,
    /// Experts of each layer; descending from 8 to 1 if not given.
    pub experts: Option<Vec<usize>>,
    /// Hidden width of an expert; half the network's width if not given.
    pub expert_hidden: Option<usize>,
    /// Where layer normalization stands: final, post or pre.
    pub norm: &'a str,
}

impl Shape<'_> {
    /// The network with MNIST's images: 256 of 784 numbers in 10 classes.
    pub fn of_size(size: &str) -> Shape<'_> {
        Shape { size, batch: 256, input: 784, classes: 10, experts: None, expert_hidden: None, norm: "post" }
    }

    /// The network's specification.
    ///
    /// # Errors
    /// An unknown size, and values out of range.
    pub fn spec(&self) -> Result<Spec> {
        let Shape { size, batch, input, classes, .. } = *self;
        let sizes = || PRESETS.iter().map(|p| p.0);
        if !sizes().any(|name| name == size) {
            let near = nearest(size, sizes()).unwrap_or_default();
            let what = format!("`{size}` is none of tiny, small, medium, large; the nearest is `{near}`");
            return Err(Error::config("size", what).into());
        }
        for (key, value, most) in
            [("batch", batch, 1 << 20), ("input", input, 1 << 20), ("classes", classes, 1 << 20)]
        {
            require(key, (1..=most).contains(&value), &value, &format!("1 to {most}"))?;
        }
        let mut set = vec![format!("norm={}", self.norm)];
        if let Some(experts) = &self.experts {
            set.push("schedule=custom".into());
            set.extend([format!("layers={}", experts.len()), format!("experts={experts:?}")]);
        }
        set.extend(self.expert_hidden.map(|hidden| format!("expert_hidden={hidden}")));
        let config = Config::resolve(&Sources { preset: Some(size), set, ..Sources::default() })?;
        let spec = config.spec(input, classes);
        let largest = spec.parameters().max(batch * input.max(classes).max(spec.width));
        let what = "too large; batch times input and the number of parameters must stay below 2^28";
        ensure!(largest < 1 << 28, "setting batch: {batch} images of {input} numbers: {what}");
        Ok(spec)
    }
}

/// A network with its optimizer and one batch.
pub struct Network {
    model: Model<f32>,
    optimizer: Optimizer<f32>,
    images: Arr<f32>,
    image: Arr<f32>,
    classes: Vec<u32>,
}

impl Network {
    /// An untrained network, and `batch` images of random numbers in random classes.
    pub fn new(spec: &Spec, batch: usize) -> Network {
        let model = Model::new(spec, &mut Init::new(SEED));
        let optimizer = Optimizer::new(Settings::ADAMW, &model);
        let mut pixels = vec![0.0; batch * spec.inputs];
        Stream::new(SEED, Purpose::Check, 0, 0).normal(&mut pixels, 1.0);
        let image = arr::from_vec(&[1, spec.inputs], pixels[..spec.inputs].to_vec());
        let mut generator = Stream::new(SEED, Purpose::Check, 1, 0).generator();
        let classes = (0..batch).map(|_| generator.bounded(spec.classes as u32)).collect();
        Network { model, optimizer, images: arr::from_vec(&[batch, spec.inputs], pixels), image, classes }
    }

    /// One training step: forward, backward, AdamW; no clipping.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn step(&mut self) -> Result<()> {
        let Network { model, optimizer, images, classes, .. } = self;
        step(model, optimizer, images.clone(), classes.clone(), SEED, 1e-3, 0.0)?;
        Ok(())
    }

    /// A training step, and the mean number of experts that an image had in each layer.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn step_k(&mut self) -> Result<Vec<f64>> {
        let Network { model, optimizer, images, classes, .. } = self;
        let result = step(model, optimizer, images.clone(), classes.clone(), SEED, 1e-3, 0.0)?;
        let k = |usage: &Usage| usage.counts.iter().sum::<u64>() as f64 / usage.tokens as f64;
        Ok(result.usage.iter().map(k).collect())
    }

    /// The digest of the state, as runs record it.
    ///
    /// # Errors
    /// None.
    pub fn digest(&mut self) -> Result<()> {
        std::hint::black_box(State::of(&self.model, Some(&self.optimizer)).digest());
        Ok(())
    }

    /// The logits of the batch, without noise and without a record for gradients.
    ///
    /// # Errors
    /// Those of the network.
    pub fn evaluate(&self) -> Result<()> {
        self.infer(&self.images)
    }

    /// The logits of one image.
    ///
    /// # Errors
    /// Those of the network.
    pub fn evaluate_one(&self) -> Result<()> {
        self.infer(&self.image)
    }

    fn infer(&self, images: &Arr<f32>) -> Result<()> {
        let tape = Tape::new(Mode::Infer);
        let (logits, _) = self.model.forward(tape.constant(images.clone()), Phase::Eval)?;
        std::hint::black_box(logits.value());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_the_network_asked_for() {
        let spec = Shape::of_size("small").spec().unwrap();
        assert_eq!((spec.parameters(), spec.hidden, &spec.experts[..]), (403_484, 64, &[8, 6, 3, 1][..]));
        let shape = Shape { experts: Some(vec![2, 5]), expert_hidden: Some(7), ..Shape::of_size("tiny") };
        let spec = shape.spec().unwrap();
        assert_eq!((&spec.experts[..], spec.hidden, spec.width), (&[2, 5][..], 7, 64));
    }

    #[test]
    fn invalid_shapes_are_refused_in_one_line() {
        let small = || Shape::of_size("small");
        for (shape, part) in [
            (Shape::of_size("smal"), "setting size: `smal` is none of"),
            (Shape { batch: 0, ..small() }, "setting batch: 0 is not valid"),
            (Shape { input: 0, ..small() }, "setting input: 0 is not valid"),
            (Shape { classes: 0, ..small() }, "setting classes: 0 is not valid"),
            (Shape { experts: Some(vec![0]), ..small() }, "setting experts: [0] is not valid"),
            (Shape { norm: "psot", ..small() }, "setting norm: "),
            (Shape { batch: 1 << 20, ..small() }, "must stay below 2^28"),
        ] {
            let line = shape.spec().unwrap_err().to_string();
            assert!(line.contains(part) && line.lines().count() == 1, "{line}");
        }
    }

    #[test]
    fn a_step_and_two_evaluations_run() {
        let spec = Shape { input: 6, ..Shape::of_size("tiny") }.spec().unwrap();
        let mut network = Network::new(&spec, 4);
        network.step().unwrap();
        network.evaluate().unwrap();
        network.evaluate_one().unwrap();
        network.digest().unwrap();
    }
}
