//! `dynamoe predict`: the class of one image, how sure the network is, and which experts it used.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::flags::{Json, Machine, Saved};
use crate::data::{self, Encoding, ImageEncoding};
use crate::engine::arr;
use crate::engine::error::Error;
use crate::engine::kernels::select;
use crate::engine::ops::softmax::probabilities;
use crate::engine::tape::{Mode, Tape};
use crate::nn::Phase;

/// Classify one image: an image file, or an image of the run's data set
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    saved: Saved,
    /// A PNG file of the data set's size
    #[arg(long, value_name = "FILE", conflicts_with = "index", required_unless_present = "index")]
    image: Option<PathBuf>,
    /// For dark on light: invert the image first
    #[arg(long, conflicts_with = "index")]
    invert: bool,
    /// Number of an image in the test split, from 0
    #[arg(long, value_name = "N")]
    index: Option<usize>,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    json: Json,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Prediction {
    class: usize,
    /// The right class, where it is known.
    label: Option<u8>,
    probabilities: Vec<f32>,
    /// For each layer the experts that ran, numbered from 0.
    experts: Vec<Vec<usize>>,
}

/// Prints the class, the probabilities and the experts.
pub fn run(args: Args) -> Result<()> {
    let Args { saved, image, invert, index, machine, json } = args;
    let prediction = machine.threads.run(|| {
        let trained = saved.open()?;
        let Encoding::Images(input) = &trained.input else {
            let what = "this network is for text; `dynamoe sample` generates from it";
            return Err(Error::data(&saved.run, what).into());
        };
        let (pixels, label) = match (&image, index) {
            (Some(path), _) => (read_png(path, invert, input)?, None),
            (None, index) => {
                let index = index.unwrap_or(0);
                let images = data::load(&trained.config.data.dataset, machine.data.path())?.test;
                let (features, count) = (images.features(), images.len());
                if index >= count {
                    let what = format!("{index} is out of range; the test split has 0 to {}", count - 1);
                    return Err(Error::config("index", what).into());
                }
                (images.pixels[index * features..][..features].to_vec(), Some(images.labels[index]))
            }
        };
        let mut x = vec![0.0; pixels.len()];
        input.standardize()?.apply(&pixels, &mut x);
        let tape = Tape::new(Mode::Infer);
        let (logits, dispatch) =
            trained.model.forward(tape.constant(arr::from_vec(&[1, x.len()], x)), Phase::Eval)?;
        let probabilities = arr::data(&probabilities(&logits.value())).to_vec();
        if !probabilities.iter().all(|p| p.is_finite()) {
            let what = "the network's probabilities are not finite: training diverged";
            return Err(Error::data(&saved.run, what).into());
        }
        // One token: an expert that served any token served this one.
        let ran = |counts: &Vec<u64>| (0..counts.len()).filter(|&e| counts[e] > 0).collect();
        Ok(Prediction {
            class: select::argmax(&probabilities),
            label,
            probabilities,
            experts: dispatch.iter().map(|layer| ran(&layer.usage.counts)).collect(),
        })
    })?;
    json.print(&prediction, describe)
}

fn describe(prediction: &Prediction) -> String {
    let Prediction { class, label, probabilities, experts } = prediction;
    let right = label.map_or(String::new(), |l| format!("   (labeled {l})"));
    let mut text = format!("class {class}, probability {:.4}{right}\n\n", probabilities[*class]);
    for (class, p) in probabilities.iter().enumerate() {
        let bar = "█".repeat((p * 40.0).round() as usize);
        text += format!("{class:>5}  {p:.4}  {bar}").trim_end();
        text.push('\n');
    }
    text.push('\n');
    for (layer, ran) in experts.iter().enumerate() {
        let list = ran.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        text += &format!("layer {}: experts {list}\n", layer + 1);
    }
    text
}

/// The image's values as the network's data set stores them: channels one after the other, 0 to `scale`.
fn read_png(path: &Path, invert: bool, input: &ImageEncoding) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let broken = |e: png::DecodingError| Error::data(path, format!("not a readable PNG image ({e})"));
    let mut decoder = png::Decoder::new(BufReader::new(file));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(broken)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    if (height, width) != (input.height, input.width) {
        let ImageEncoding { height: h, width: w, .. } = input;
        return Err(Error::data(
            path,
            format!("is {width} x {height} pixels; this network takes {w} x {h}: scale it first"),
        ));
    }
    let size = reader.output_buffer_size().ok_or_else(|| Error::data(path, "is too large"))?;
    let mut bytes = vec![0; size];
    let frame = reader.next_frame(&mut bytes).map_err(broken)?;
    let samples = frame.color_type.samples();
    let color = samples >= 3;
    let value = |pixel: &[u8], channel: usize| {
        let value = match (color, input.channels) {
            (true, 1) => (pixel[0] as u32 * 299 + pixel[1] as u32 * 587 + pixel[2] as u32 * 114 + 500) / 1000,
            (true, _) => pixel[channel] as u32,
            (false, _) => pixel[0] as u32,
        };
        let value = if invert { 255 - value } else { value };
        (value as f32 * input.scale / 255.0).round() as u8
    };
    let pixels = || bytes[..frame.buffer_size()].chunks_exact(samples);
    Ok((0..input.channels).flat_map(|c| pixels().map(move |p| value(p, c))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(path: &Path, width: u32, color: png::ColorType, data: &[u8]) {
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), width, 2);
        encoder.set_color(color);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
    }

    fn input(channels: usize, scale: f32) -> ImageEncoding {
        ImageEncoding { height: 2, width: 2, channels, scale, classes: 10, mean: 0.0, std: 1.0 }
    }

    #[test]
    fn grey_color_scale_and_inversion() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        png(&path, 2, png::ColorType::Grayscale, &[0, 255, 128, 16]);
        assert_eq!(read_png(&path, false, &input(1, 255.0)).unwrap(), [0, 255, 128, 16]);
        assert_eq!(read_png(&path, true, &input(1, 16.0)).unwrap(), [16, 0, 8, 15]);
        assert_eq!(read_png(&path, false, &input(3, 255.0)).unwrap().len(), 12);
        png(&path, 2, png::ColorType::Rgb, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(
            read_png(&path, false, &input(3, 255.0)).unwrap(),
            [1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12]
        );
        assert_eq!(read_png(&path, false, &input(1, 255.0)).unwrap(), [2, 5, 8, 11]);
    }

    #[test]
    fn bad_images_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let refusal = || read_png(&path, false, &input(1, 255.0)).err().unwrap().to_string();
        assert!(refusal().starts_with("cannot read "));
        std::fs::write(&path, b"GIF89a").unwrap();
        assert!(refusal().contains("not a readable PNG"));
        png(&path, 3, png::ColorType::Grayscale, &[0; 6]);
        assert!(refusal().contains("is 3 x 2 pixels; this network takes 2 x 2"));
    }
}
