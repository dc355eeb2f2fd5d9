//! The values that the first paper reports (Gülmez, arXiv 2603.01697), by table.

use crate::nn::schedule::Schedule;

/// Parameters of Small as the paper gives them.
pub const SMALL_PARAMETERS: f64 = 380_000.0;

/// Table 2, MNIST at size Small, the dense baseline: accuracy in percent, epochs to 95% of the final accuracy.
pub const TABLE2_MLP: (f64, f64) = (89.42, 8.0);

/// Table 2, the schedules: accuracy in percent, epochs to 95% of the final accuracy.
pub const TABLE2: [(Schedule, f64, f64); 7] = [
    (Schedule::Uniform, 91.35, 7.0),
    (Schedule::Descending, 92.68, 6.0),
    (Schedule::Ascending, 90.12, 9.0),
    (Schedule::PyramidUp, 91.08, 7.0),
    (Schedule::PyramidDown, 90.85, 8.0),
    (Schedule::WaveUp, 91.52, 7.0),
    (Schedule::WaveDown, 91.23, 7.0),
];

/// Table 3: most and fewest experts of a layer, accuracy in percent.
pub const TABLE3: [(usize, usize, f64); 6] =
    [(2, 1, 90.85), (4, 1, 91.62), (8, 1, 92.68), (16, 1, 92.45), (8, 2, 91.98), (8, 4, 91.24)];

/// Table 4: data set, then accuracy in percent of the dense baseline, uniform and descending.
pub const TABLE4: [(&str, f64, f64, f64); 3] = [
    ("mnist", 89.42, 91.35, 92.68),
    ("fashion-mnist", 84.15, 86.82, 88.34),
    ("cifar-10", 62.38, 65.12, 67.85),
];

/// Table 5, language modeling: size, then the best validation perplexity of the dense baseline, descending, ascending,
/// pyramid-up and uniform.
pub const TABLE5: [(&str, [f64; 5]); 3] = [
    ("tiny", [1003.08, 1011.80, 1063.87, 1056.17, 1078.31]),
    ("small", [2311.02, 2335.91, 2308.29, 2310.73, 2484.32]),
    ("medium", [2468.16, 2417.24, 2397.47, 2418.29, 2383.89]),
];

/// Table 6: experts of the layer, mean active experts, utilization in percent, usage entropy in bits.
pub const TABLE6: [(usize, f64, f64, f64); 4] =
    [(8, 2.4, 30.0, 2.12), (6, 2.1, 35.0, 1.98), (3, 1.5, 50.0, 1.45), (1, 1.0, 100.0, 0.0)];

/// Table 7: setting, its name for readers, the values tried, and the best of them.
pub const TABLE7: [(&str, &str, &[&str], &str); 4] = [
    ("temperature", "temperature", &["0.1", "0.5", "1", "2"], "0.5"),
    ("noise", "noise", &["0.01", "0.05", "0.1", "0.2"], "0.1"),
    ("tau", "tau", &["0.5", "0.6", "0.7", "0.8", "0.9"], "0.7"),
    ("lr", "learning rate", &["0.0001", "0.0005", "0.001", "0.005"], "0.001"),
];
