//! What configurations come out of which settings, and which are refused.

use std::path::Path;

use super::*;
use crate::nn::router::OrAuto;
use crate::nn::spec::Norm;

fn set(settings: &[&str]) -> Result<Config> {
    Config::resolve(&Sources::of(settings))
}

fn refusal(setting: &str) -> String {
    set(&[setting]).err().unwrap_or_else(|| panic!("{setting} was accepted")).to_string()
}

/// The configuration in a file of this text.
fn file(text: &str) -> Result<Config> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::resolve(&Sources { file: Some(file.path()), ..Sources::default() })
}

#[test]
fn text_has_settings_of_its_own() {
    let text = |settings: &[&str]| Config::resolve(&Sources { text: Some(true), ..Sources::of(settings) });
    let plain = text(&[]).unwrap();
    assert_eq!((&plain.data.dataset[..], plain.train.batch, plain.train.epochs), ("tinyshakespeare", 32, 5));
    assert_eq!(plain.spec(0, 100).text, Some(Text { tied: false, attention: None }));
    assert!(text(&["dataset=mnist"]).unwrap_err().to_string().contains("task: mnist is images"));
    let wiki = text(&["dataset=wikitext-2", "model=transformer", "width=96"]).unwrap();
    assert_eq!((wiki.model.norm, wiki.model.heads().groups, wiki.model.hidden()), (Norm::Pre, 3, 96));
    assert_eq!((&wiki.model.heads, &wiki.model.kv_heads), (&OrAuto::Set(3), &OrAuto::Set(3)));
    assert_eq!((wiki.train.batch, wiki.train.epochs), (32, 5));
    for (settings, part) in [
        (&["router=expert-choice"][..], "router: expert-choice is not causal"),
        (&["heads=2"], "heads: is for model = \"transformer\""),
        (&["model=transformer", "heads=3"], "setting heads: 3 is "),
        (&["model=transformer", "kv_heads=3"], "setting kv_heads: 3 is "),
        (&["model=transformer", "norm=post"], "norm: a Transformer has norm"),
        (&["tokenizer=words"], "tokenizer: \"words\" is not valid; it must be \"gpt2\""),
    ] {
        let line = text(settings).unwrap_err().to_string();
        assert!(line.contains(part), "{settings:?}: {line}");
    }
    // Explicitly set, even to the default.
    for setting in ["tie=true", "tie=false", "sequence=128"] {
        assert!(refusal(setting).contains("is for text, and digits is images"), "{setting}");
    }
    assert!(refusal("model=transformer").contains("a Transformer is for text"));
    assert_eq!(file(&wiki.to_toml()).unwrap(), wiki);
    assert_eq!(file(&wiki.flat_text()).unwrap(), wiki);
}

#[test]
fn transformers_are_about_as_large_as_their_names_say() {
    for (preset, millions) in [("1m", 1.0), ("3m", 3.0), ("10m", 10.0), ("30m", 30.0)] {
        let name = format!("transformer-{preset}");
        let config = Config::resolve(&Sources { preset: Some(&name), ..Sources::default() }).unwrap();
        let count = config.spec(0, 256).parameters() as f64 / 1e6;
        assert!((count / millions - 1.0).abs() < 0.05, "{name}: {count}");
    }
}

#[test]
fn later_sources_win() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[router]\ntau = 0.5\n[optimizer]\nlr = 1\n[model]\nwidth = 32\n").unwrap();
    let sources = Sources {
        preset: Some("medium"),
        file: Some(file.path()),
        epochs: Some(7),
        seed: Some(3),
        ..Sources::of(&["tau=0.9", "model.schedule=wave-up", "train.epochs=2"])
    };
    let config = Config::resolve(&sources).unwrap();
    assert_eq!((config.model.layers, config.model.width, config.optimizer.lr), (6, 32, 1.0));
    assert_eq!((config.train.epochs, config.train.seed), (7, 3));
    assert_eq!(config.router.to_table()["tau"].as_float(), Some(0.9));
    assert_eq!(config.model.experts().unwrap().len(), 6);
    assert_eq!(set(&["dataset=cifar-10"]).unwrap().train.epochs, 25);
}

#[test]
fn a_written_configuration_reads_back_in_sections_flat_and_as_json() {
    for settings in [
        &[][..],
        &["schedule=custom", "experts=[3,2]", "layers=2"],
        &["model=mlp", "match_by=flops"],
        &["optimizer.name=sgd", "lr=1e-7"],
        &["router=learned-k", "target_k=3", "z_loss=0.5"],
    ] {
        let config = set(settings).unwrap();
        assert_eq!(file(&config.to_toml()).unwrap(), config, "{}", config.to_toml());
        assert_eq!(file(&config.flat_text()).unwrap(), config, "{}", config.flat_text());
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config, "{json}");
    }
    let text = set(&[]).unwrap().to_toml();
    assert!(
        text.starts_with("[data]\ndataset = \"digits\"\n\n[model]\nkind = \"dynamoe\"\nlayers = 4\n"),
        "{text}"
    );
    assert!(text.contains("\n[router]\nname = \"percentile\"\npercentile_scope = \"token\"\n"), "{text}");
}

#[test]
fn every_router_is_chosen_by_name_and_has_its_own_settings() {
    for &name in router::NAMES {
        let config = set(&[&format!("router={name}")]).unwrap();
        assert_eq!(config.router.name(), name);
        assert_eq!(file(&config.to_toml()).unwrap(), config);
        assert_eq!(file(&config.flat_text()).unwrap(), config);
    }
    let config = set(&["router=top-k", "k=3", "balance_loss=1"]).unwrap();
    assert_eq!(config.router.to_table()["k"].as_integer(), Some(3));
    assert_eq!(set(&["router=top-k", "k=auto"]).unwrap(), set(&["router=top-k"]).unwrap());
    assert!(refusal("k=3").contains("setting k: is a setting of router "));
    let single = set(&["router=single"]).unwrap();
    assert_eq!((single.model.experts().unwrap(), single.spec(9, 2).experts), (vec![8, 6, 3, 1], vec![1; 4]));
}

#[test]
fn flat_files_of_earlier_versions_are_read() {
    let config =
        file("expert_hidden = 0\nheads = 0\ntokenizer = \"gpt2\"\nk = \"auto\"\nmass = 0.4\n").unwrap();
    assert_eq!(config, set(&[]).unwrap());
    assert!(file("tua = 0.7").is_err());
    assert!(file("mass = 0.5").unwrap_err().to_string().contains("mass: is a setting of router top-p"));
    assert!(file("heads = 2").unwrap_err().to_string().contains("heads: is for model"));
    // In sections nothing stands that has no meaning.
    assert!(file("[model]\nkv_heads = \"auto\"").unwrap_err().to_string().contains("kv_heads: is for model"));
    // The text and digest of a run of version 0.1.
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = std::fs::read_to_string(golden.join("config-0.1.toml")).unwrap();
    assert_eq!(file(&text).unwrap().flat_text(), text);
    let digest = crate::train::manifest::config_digest(&file(&text).unwrap());
    assert_eq!(digest, blake3::hash(text.as_bytes()).to_hex().to_string());
}

#[test]
fn bad_settings_are_refused_by_name_value_and_range() {
    for (setting, part) in [
        ("tua=0.5", "nearest is `tau`"),
        ("optimizer.rl=0.5", "nearest is `optimizer.lr`"),
        ("train.lr=0.5", "setting train.lr: no such setting"),
        ("tau=1.5", "setting tau: 1.5 is "),
        ("tau=NaN", "setting tau"),
        ("router=top-kk", "no router `top-kk`; the nearest is `top-k`"),
        ("z_loss=-1", "setting z_loss: -1 is "),
        ("entropy_loss=none", "setting entropy_loss"),
        ("layers=0", "setting layers: 0 is "),
        ("schedule=zigzag", "setting schedule: \"zigzag\" is not valid; it must be descending, "),
        ("dataset=mnits", "nearest is `mnist`"),
        ("lr=-1", "setting lr: -1"),
        ("batch=1.5", "setting batch: 1.5 is not valid; it must be 1 to 1048576"),
        ("expert_hidden=0", "setting expert_hidden: 0 is "),
        ("experts_min=9", "setting experts_min: 9 is "),
        ("nonsense", "expected key=value"),
        ("width=1000000", "setting width: 1000000 is "),
        ("experts=[1,2]", "needs schedule"),
        ("schedule=custom", "needs a list, one number for each layer"),
        ("seed=9223372036854775808", "it must be 0 to 2^63 - 1"),
    ] {
        let line = refusal(setting);
        assert!(line.contains(part), "{setting}: {line}");
    }
    let seed = Config::resolve(&Sources { seed: Some(u64::MAX), ..Sources::default() }).unwrap_err();
    assert!(seed.to_string().contains("18446744073709551615"), "{seed}");
    let custom = set(&["schedule=custom", "experts=[1,2]"]).err().unwrap().to_string();
    assert!(custom.contains("one for each layer"), "{custom}");
    let preset = Config::resolve(&Sources { preset: Some("smal"), ..Sources::default() });
    assert!(preset.err().unwrap().to_string().contains("nearest is `small`"));
}

#[test]
fn a_schedule_must_be_known_before_training() {
    let learned = set(&["schedule=learned"]).unwrap();
    let line = Resolved::try_from(learned).unwrap_err().to_string();
    assert!(line.contains("schedule: a learned schedule is known once training has begun"), "{line}");
    let known = set(&["schedule=learned", "layers=2", "experts=[3,1]"]).unwrap();
    assert_eq!(Resolved::try_from(known).unwrap().spec(2, 2).experts, [3, 1]);
}
