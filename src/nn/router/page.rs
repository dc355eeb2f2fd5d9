//! Keeps `docs/routers.md` equal to what the routers say of themselves.

use std::fmt::Write;

use super::losses;
use super::settings::{Key, Keys};
use super::{NAMES, Settings};

/// The page.
fn page() -> String {
    let mut page = String::from(
        "# Routers\n\n\
         `dynamoe train --set router=NAME`. The equations stand in one file per router in\n\
         [`src/nn/router`](../src/nn/router). This page is written from these files: `BLESS=1 cargo test --lib router_page`.\n\n\
         | name | which experts serve a token | from | looks across the batch? |\n|---|---|---|---|\n",
    );
    for settings in Settings::all() {
        let (about, rule) = (settings.about(), settings.rule());
        let [name, looks] = [settings.name(), rule.looks_across()];
        writeln!(page, "| `{name}` | {} | {} | {looks} |", about.chooses, about.source).unwrap();
    }
    page += "\n## Settings\n\nThose of the chosen router, in the section `[router]`.\n\n\
             | router | setting | default | valid values | what it means |\n|---|---|---|---|---|\n";
    for (settings, key) in Settings::all().flat_map(|s| s.own_keys().iter().map(move |key| (s, key))) {
        row(&mut page, settings.name(), key, &settings.to_table()[key.name]);
    }
    for (key, (_, default)) in losses::Settings::KEYS.iter().zip(losses::Settings::default().values()) {
        row(&mut page, "all but `single`", key, &default);
    }
    page + "\n`\"auto\"` is the value of the router's source.\n"
}

fn row(page: &mut String, router: &str, key: &Key, default: &toml::Value) {
    let router = if NAMES.contains(&router) { format!("`{router}`") } else { router.to_string() };
    writeln!(page, "| {router} | `{}` | `{default}` | {} | {} |", key.name, key.valid, key.doc).unwrap();
}

#[test]
fn router_page() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/routers.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page(), "docs/routers.md is out of date: run `BLESS=1 cargo test --lib router_page`");
}
