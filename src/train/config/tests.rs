//! What configurations come out of which settings, and which are refused.

use super::*;

#[test]
fn text_has_settings_of_its_own() {
    let text = |settings: &[&str]| {
        let set = settings.iter().map(|s| s.to_string()).collect();
        Config::resolve(&Layers { set, text: Some(true), ..Layers::default() })
    };
    let plain = text(&[]).unwrap();
    assert_eq!(
        (&plain.dataset[..], plain.batch, plain.epochs, plain.sequence),
        ("tinyshakespeare", 32, 5, 128)
    );
    assert_eq!(plain.spec(0, 100).text, Some(Text { tied: false, attention: None }));
    assert!(text(&["dataset=mnist"]).unwrap_err().to_string().contains("task: mnist is images"));
    let wiki = text(&["dataset=wikitext-2", "model=transformer", "width=96"]).unwrap();
    assert_eq!((wiki.norm, wiki.heads, wiki.kv_heads, wiki.expert_hidden), (Norm::Pre, 3, 3, 96));
    assert_eq!((wiki.batch, wiki.epochs), (32, 5));
    for (settings, part) in [
        (&["router=expert-choice"][..], "router: does not do for text: it looks ahead"),
        (&["heads=2"], "heads: is for model = \"transformer\""),
        (&["model=transformer", "heads=3"], "heads: 3 is impossible"),
        (&["model=transformer", "kv_heads=3"], "kv_heads: 3 is impossible"),
        (&["model=transformer", "norm=post"], "norm: a Transformer has norm"),
        (&["tokenizer=words"], "tokenizer"),
    ] {
        let line = text(settings).unwrap_err().to_string();
        assert!(line.contains(part), "{settings:?}: {line}");
    }
    let line = set(&["tie=true"]).unwrap_err().to_string();
    assert!(line.contains("tie: is for text, and digits is images"), "{line}");
    assert!(set(&["model=transformer"]).unwrap_err().to_string().contains("a Transformer is for text"));
    // A model file that a run wrote is read again as it was.
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("config.toml");
    std::fs::write(&path, wiki.to_toml()).unwrap();
    assert_eq!(Config::resolve(&Layers { file: Some(&path), ..Layers::default() }).unwrap(), wiki);
}

#[test]
fn transformers_are_about_as_large_as_their_names_say() {
    for (preset, millions) in [("1m", 1.0), ("3m", 3.0), ("10m", 10.0), ("30m", 30.0)] {
        let name = format!("transformer-{preset}");
        let config = Config::resolve(&Layers { preset: Some(&name), ..Layers::default() }).unwrap();
        let count = config.spec(0, 256).parameters() as f64 / 1e6;
        assert!((count / millions - 1.0).abs() < 0.05, "{name}: {count}");
    }
}

fn set(settings: &[&str]) -> Result<Config> {
    Config::resolve(&Layers { set: settings.iter().map(|s| s.to_string()).collect(), ..Layers::default() })
}

fn refusal(setting: &str) -> String {
    set(&[setting]).err().unwrap_or_else(|| panic!("{setting} was accepted")).to_string()
}

#[test]
fn layers_override_each_other_and_the_result_reads_back() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, b"tau = 0.5\nlr = 1\nwidth = 32\n").unwrap();
    let layers = Layers {
        preset: Some("medium"),
        file: Some(file.path()),
        set: vec!["tau=0.9".into(), "schedule=wave-up".into()],
        text: None,
    };
    let config = Config::resolve(&layers).unwrap();
    assert_eq!((config.layers, config.width, config.routing.tau, config.lr), (6, 32, 0.9, 1.0));
    assert_eq!(config.experts.len(), 6);
    assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
    assert_eq!(set(&["dataset=cifar-10"]).unwrap().epochs, 25);
}

#[test]
fn a_resolved_file_resolves_to_itself() {
    let config = set(&["schedule=custom", "experts=[3,2]", "layers=2"]).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, config.to_toml().as_bytes()).unwrap();
    let layers = Layers { file: Some(file.path()), ..Layers::default() };
    assert_eq!(Config::resolve(&layers).unwrap(), config);
}

#[test]
fn routers_are_chosen_by_name_and_each_has_its_settings() {
    for &name in crate::nn::router::NAMES {
        let config = set(&[&format!("router={name}"), "k=3", "balance_loss=1"]).unwrap();
        assert_eq!((&config.routing.name[..], config.routing.k.or(7)), (name, 3));
        assert_eq!((config.routing.balance_loss.or(7.0), config.routing.z_loss.or(7.0)), (1.0, 7.0));
        assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
    }
    assert_eq!(set(&["k=auto"]).unwrap(), set(&[]).unwrap());
    let single = set(&["router=single"]).unwrap();
    assert_eq!((&single.experts[..], single.spec(9, 2).experts), (&[8, 6, 3, 1][..], vec![1; 4]));
}

#[test]
fn a_configuration_from_before_a_setting_existed_has_its_default() {
    assert_eq!(
        toml::from_str::<Config>("tau = 0.7\npercentile_scope = \"token\"").unwrap(),
        Config::default()
    );
    assert!(toml::from_str::<Config>("tua = 0.7").is_err());
}

#[test]
fn bad_settings_are_refused_by_name() {
    assert!(refusal("tua=0.5").contains("nearest is `tau`"));
    assert!(refusal("tau=1.5").contains("setting tau: 1.5 is impossible"));
    assert!(refusal("router=top-kk").contains("no router `top-kk`; the nearest is `top-k`"));
    assert!(refusal("k=0").contains("0 is impossible; it must be \"auto\", or 1 to 4096"));
    assert!(refusal("k=2.5").contains("setting k: 2.5 does not do: expected \"auto\" or a number"));
    assert!(refusal("z_loss=-1").contains("setting z_loss: -1 is impossible"));
    assert!(refusal("entropy_loss=none").contains("setting entropy_loss"));
    assert!(refusal("mass=0").contains("setting mass: 0 is impossible; it must be above 0, to 1"));
    assert!(refusal("capacity_factor=0").contains("setting capacity_factor"));
    assert!(refusal("target_k=0.5").contains("setting target_k"));
    assert!(refusal("own_losses=-1").contains("setting own_losses"));
    assert!(refusal("layers=0").contains("setting layers"));
    assert!(refusal("schedule=zigzag").contains("setting schedule"));
    assert!(refusal("dataset=mnits").contains("nearest is `mnist`"));
    assert!(refusal("tau=NaN").contains("setting tau"));
    assert!(refusal("lr=-1").contains("setting lr"));
    assert!(refusal("batch=1.5").contains("setting batch"));
    assert!(refusal("experts_min=9").contains("setting experts_min"));
    assert!(refusal("nonsense").contains("expected key=value"));
    assert!(refusal("width=1000000").contains("setting width"));
    assert!(refusal("experts=[1,2]").contains("needs schedule"));
    assert!(refusal("seed=18446744073709551615").contains("a whole number from 0 to 2^63 - 1"));
    let custom = set(&["schedule=custom", "experts=[1,2]"]).err().unwrap().to_string();
    assert!(custom.contains("one for each layer"), "{custom}");
    let preset = Config::resolve(&Layers { preset: Some("smal"), ..Layers::default() });
    assert!(preset.err().unwrap().to_string().contains("nearest is `small`"));
}
