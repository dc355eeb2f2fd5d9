//! `dynamoe schedule`: how many experts each schedule gives to each layer.

use anyhow::Result;

use super::flags::Svg;
use super::output::print;
use crate::engine::error::require;
use crate::lab::plot::schedules;
use crate::nn::schedule::Schedule;

/// Columns that every terminal has.
const WIDTH: usize = 76;

/// Lines of a bar chart.
const HEIGHT: usize = 4;

/// An eighth of a line to all of it.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draw the schedules of experts over layers
#[derive(clap::Args)]
pub struct Args {
    /// Number of layers
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Fewest experts of a layer
    #[arg(long, default_value_t = 1)]
    min: usize,
    /// Most experts of a layer
    #[arg(long, default_value_t = 8)]
    max: usize,
    /// Also draw a custom schedule, such as 8,4,4,2
    #[arg(long, value_delimiter = ',', value_name = "COUNTS")]
    custom: Option<Vec<usize>>,
    #[command(flatten)]
    svg: Svg,
}

/// Draws every schedule in the terminal, and as a picture.
pub fn run(args: Args) -> Result<()> {
    let Args { layers, min, max, custom, svg } = args;
    let whole = |key: &str, value: usize, most: usize| {
        require(key, (1..=most).contains(&value), &value, &format!("1 to {most}"))
    };
    whole("layers", layers, 1000)?;
    whole("max", max, 4096)?;
    whole("min", min, max)?;
    if let Some(list) = &custom {
        let fits = list.len() == layers && list.iter().all(|e| (1..=4096).contains(e));
        let need = format!("{layers} numbers from 1 to 4096, one for each layer");
        require("custom", fits, &format!("{list:?}"), &need)?;
    }
    let custom = custom.as_deref();
    let all = schedules(layers, min, max, custom);
    let layer_s = if layers == 1 { "layer" } else { "layers" };
    let head = format!("{layers} {layer_s}, {min} to {max} experts in each");
    let wrote = svg.write(|| schedules::draw(&head, &all))?;
    let mut text = head + "\n\n" + &listing(&all);
    if custom.is_none() {
        text += "custom: give a list, one number for each layer, such as 8,4,4,2\n";
    }
    print(&(text + &wrote))
}

/// Name and experts of every schedule that is known.
fn schedules(
    layers: usize,
    min: usize,
    max: usize,
    custom: Option<&[usize]>,
) -> Vec<(&'static str, Vec<usize>)> {
    let of = |(schedule, name): (Schedule, &'static str)| match schedule {
        Schedule::Custom => Some((name, custom?.to_vec())),
        Schedule::Learned => None,
        _ => Some((name, schedule.experts(layers, min, max))),
    };
    Schedule::ALL.into_iter().filter_map(of).collect()
}

/// For each schedule its name, the total, bars, and the counts.
fn listing(all: &[(&str, Vec<usize>)]) -> String {
    let most = all.iter().flat_map(|s| &s.1).copied().max().unwrap_or(1).max(1);
    let column = most.to_string().len() + 1;
    let one = |(name, experts): &(&str, Vec<usize>)| {
        let total: usize = experts.iter().sum();
        let s = if total == 1 { "" } else { "s" };
        // Counts stand under their bars if they fit, else bars are one column wide and counts fill lines.
        let fits = experts.len() * column <= WIDTH;
        let (bar, gap) = if fits { (column - 1, 1) } else { (1, 0) };
        let bars: String =
            experts.chunks(WIDTH / (bar + gap)).map(|part| bars(part, most, bar, gap)).collect();
        let counts = experts.chunks(WIDTH / column).map(|part| {
            let cells = part.iter().map(|e| format!("{e:>width$}", width = column - 1));
            format!("  {}\n", cells.collect::<Vec<_>>().join(" "))
        });
        format!("{name}: {total} expert{s}\n{bars}{}\n", counts.collect::<String>())
    };
    all.iter().map(one).collect()
}

/// A chart of bars `width` wide with `gap` between, in which `most` is as high as the chart.
fn bars(experts: &[usize], most: usize, width: usize, gap: usize) -> String {
    let line = |row: usize| {
        let bar = |&count: &usize| {
            // Every bar has at least an eighth of a line.
            let eighths = (count * HEIGHT * 8).div_ceil(most).saturating_sub(8 * row);
            BLOCKS[eighths.min(8)].to_string().repeat(width) + &" ".repeat(gap)
        };
        format!("  {}", experts.iter().map(bar).collect::<String>()).trim_end().to_string() + "\n"
    };
    (0..HEIGHT).rev().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::lab::plot::assert_well_formed;

    #[test]
    fn counts_stand_under_their_bars() {
        let all = schedules(4, 1, 8, None);
        assert_eq!(all.len(), 7);
        let text = listing(&all[..1]);
        assert_eq!(text, "descending: 18 experts\n  █\n  █ █\n  █ █ ▄\n  █ █ █ ▄\n  8 6 3 1\n\n");
    }

    #[test]
    fn any_depth_fits_the_terminal() {
        for layers in [1, 2, 30, 60, 76, 77, 1000] {
            let all = schedules(layers, 1, 256, Some(&vec![256; layers]));
            assert_eq!(all.len(), 8);
            assert!(listing(&all).lines().all(|line| line.chars().count() <= WIDTH + 2), "{layers}");
            assert_well_formed(&schedules::draw("", &all));
        }
    }

    fn draw(
        layers: usize,
        min: usize,
        max: usize,
        custom: Option<&[usize]>,
        svg: Option<&Path>,
    ) -> Result<()> {
        let svg = Svg { path: svg.map(Path::to_path_buf) };
        run(Args { layers, min, max, custom: custom.map(<[_]>::to_vec), svg })
    }

    #[test]
    fn numbers_out_of_range_are_refused_and_the_picture_is_written() {
        assert!(draw(0, 1, 8, None, None).is_err() && draw(4, 9, 8, None, None).is_err());
        assert!(draw(4, 0, 8, None, None).is_err() && draw(4, 1, 5000, None, None).is_err());
        let error = draw(4, 1, 8, Some(&[1, 2]), None).unwrap_err().to_string();
        assert!(error.contains("custom: [1, 2] is ") && error.contains("one for each layer"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schedules.svg");
        draw(4, 1, 8, Some(&[2, 4, 4, 2]), Some(&path)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_well_formed(&text);
        assert!(text.contains("custom"));
        if let Ok(folder) = std::env::var("DYNAMOE_PLOTS") {
            for (name, layers, max) in [("four", 4, 8), ("deep", 60, 64)] {
                draw(layers, 1, max, None, Some(&Path::new(&folder).join(format!("schedules-{name}.svg"))))
                    .unwrap();
            }
        }
    }
}
