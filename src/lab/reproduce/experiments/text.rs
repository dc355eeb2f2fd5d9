//! Language models: the first paper's, and Transformers.

use super::cells::name;
use crate::lab::reproduce::cell::{Cell, Match, Scale};
use crate::lab::reproduce::claim::{Claim, Extreme, Test};
use crate::lab::reproduce::experiment::Column::{Mean, Ratio};
use crate::lab::reproduce::experiment::{Experiment, Extra};
use crate::lab::reproduce::paper;
use crate::lab::reproduce::quantity::Quantity::{
    ActiveFlops, BestPerplexity, MeanActive, Parameters, Perplexity, TrainSeconds,
};
use crate::nn::schedule::Schedule;

/// The configurations of table 5 in its order: label, settings.
const CONFIGURATIONS: [(&str, &[&str]); 5] = [
    ("MLP, equal parameters", &["model=mlp"]),
    ("descending", &["schedule=descending"]),
    ("ascending", &["schedule=ascending"]),
    ("pyramid-up", &["schedule=pyramid-up"]),
    ("uniform", &["schedule=uniform"]),
];

/// Epochs: enough to compare; all cells together take an evening.
const EPOCHS: &str = "epochs=2";

/// Language models without attention, by schedule and size, on a text that is freely available.
pub fn table5(scale: Scale) -> Experiment {
    let about = "WikiText-2 (trained on its test file, evaluated on its validation file), GPT-2 tokens, 2 epochs. \
                 The paper uses another text, so its values only give the order of magnitude.";
    let (cells, claims) = language_models(scale, "dataset=wikitext-2");
    without_attention("table5", "Table 5: language models without attention", about, cells, claims)
}

/// The same on the paper's text: only here can the reported values be tested.
pub fn table5_web(scale: Scale) -> Experiment {
    let about =
        "A thousand samples of Recycling the Web, every tenth for evaluation, GPT-2 tokens, 2 epochs.";
    let (cells, mut claims) = language_models(scale, "dataset=recycling-the-web");
    let says = "Our perplexities agree with the paper's".into();
    claims.push(Claim { says, test: Test::Figures(BestPerplexity) });
    without_attention("table5-web", "Table 5 on the paper's text", about, cells, claims)
}

/// The five configurations at each size on a text, and the claims about them.
fn language_models(scale: Scale, dataset: &str) -> (Vec<Cell>, Vec<Claim>) {
    let (mut cells, mut claims) = (Vec::new(), Vec::new());
    let label = |size: &str, configuration: &str| format!("{size}: {configuration}");
    for (size, figures) in paper::TABLE5 {
        let of_size = CONFIGURATIONS.iter().zip(figures).map(|((configuration, settings), figure)| {
            let settings = [&[dataset, EPOCHS], *settings].concat();
            Cell::new(scale, size, label(size, configuration), &settings).paper(BestPerplexity, figure)
        });
        let of_size: Vec<Cell> = of_size.collect();
        let labels: Vec<String> = of_size.iter().map(|cell| cell.label.clone()).collect();
        let least = |a: &f64, b: &f64| a.total_cmp(b);
        let best = (0..figures.len()).min_by(|&a, &b| least(&figures[a], &figures[b])).expect("five figures");
        let says = format!("At {size} {} has the lowest perplexity", CONFIGURATIONS[best].0);
        claims.push(Claim::extreme(says, BestPerplexity, Extreme::Smallest, &labels[best], &labels));
        let of = |name: &str| CONFIGURATIONS.iter().position(|(n, _)| *n == name).expect("among the five");
        let [descending, uniform] = ["descending", "uniform"].map(of);
        // At medium the paper reports the opposite order.
        if figures[descending] < figures[uniform] {
            let says = format!("At {size} descending is better than uniform");
            claims.push(Claim::larger(says, BestPerplexity, &labels[uniform], &labels[descending]));
        }
        cells.extend(of_size);
    }
    for (smaller, larger) in [("tiny", "small"), ("small", "medium")] {
        let [smaller, larger] = [smaller, larger].map(|size| label(size, "descending"));
        let says = format!("{larger} has a higher perplexity than {smaller}: larger networks are worse");
        claims.push(Claim::larger(says, BestPerplexity, &larger, &smaller));
    }
    (cells, claims)
}

fn without_attention(
    name: &'static str,
    title: &'static str,
    about: &'static str,
    cells: Vec<Cell>,
    claims: Vec<Claim>,
) -> Experiment {
    let columns = [BestPerplexity, Perplexity, Parameters, ActiveFlops].map(Mean).into();
    Experiment { name, title, about, cells, columns, claims, extra: Extra::None }
}

/// The routers that [`transformer`] compares: label, settings.
const ROUTERS: [(&str, &[&str]); 6] = [
    ("percentile (token)", &[]),
    ("percentile (batch)", &["percentile_scope=batch"]),
    ("top-p", &["router=top-p"]),
    ("top-k", &["router=top-k"]),
    ("learned-k", &["router=learned-k"]),
    ("loss-free", &["router=loss-free"]),
];

/// Transformers by router and schedule.
pub fn transformer(scale: Scale) -> Experiment {
    let schedules = [Schedule::Descending, Schedule::Uniform, Schedule::Ascending];
    let (mut cells, mut matched, mut claims) = (Vec::new(), Vec::new(), Vec::new());
    for (router, settings) in ROUTERS {
        let mut labels = Vec::new();
        for schedule in schedules {
            let schedule_setting = format!("schedule={}", name(schedule));
            let data = ["dataset=wikitext-2", "epochs=1", schedule_setting.as_str()];
            let label = format!("{router}, {}", name(schedule));
            let cell = Cell::new(scale, "transformer-1m", label, &[&data, settings].concat());
            matched.push(cell.clone().matched(Match::Flops));
            labels.push(matched[matched.len() - 1].label.clone());
            cells.push(cell);
        }
        let says = format!("At equal active FLOPs {router} is better descending than uniform");
        claims.push(Claim::larger(says, Perplexity, &labels[1], &labels[0]));
    }
    let labels: Vec<String> = matched.iter().map(|cell| cell.label.clone()).collect();
    let says = "At equal active FLOPs top-p with a descending schedule is the best";
    let top_p =
        labels.iter().find(|label| label.starts_with("top-p, descending")).expect("among all routers");
    claims.push(Claim::extreme(says, Perplexity, Extreme::Smallest, top_p, &labels));
    cells.extend(matched);
    Experiment {
        name: "transformer",
        title: "Transformers: routers and schedules at equal active FLOPs",
        about: "A Transformer of about a million parameters on the bytes of WikiText-2, one epoch; unmatched, and \
                with the experts' hidden width chosen so that active FLOPs come closest to those of the descending \
                schedule with the literal percentile. Perplexity is per byte.",
        cells,
        columns: vec![
            Mean(Perplexity),
            Mean(MeanActive),
            Mean(ActiveFlops),
            Mean(Parameters),
            Mean(TrainSeconds),
            Ratio(Perplexity, "percentile (token), descending, equal FLOPs"),
        ],
        claims,
        extra: Extra::None,
    }
}
