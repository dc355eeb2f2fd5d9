//! Data sets.

use crate::{refusal, success};

#[test]
fn texts_stand_beside_images() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let list = success(folder, &["data", "list"]);
    assert!(list.contains("wikitext-2") && list.contains("recycling-the-web"), "{list}");
    assert!(success(folder, &["data", "verify"]).contains("tinyshakespeare/input.txt.gz (bundled)  ok"));
    assert!(success(folder, &["data", "fetch", "tinyshakespeare"]).contains("bundled: nothing to fetch"));
    assert!(refusal(folder, &["data", "fetch", "wikitext-2"]).contains("put wiki.train.tokens"));
    assert!(
        refusal(folder, &["data", "verify", "recycling-the-web"]).contains("run `dynamoe data fetch recyc")
    );
    assert!(refusal(folder, &["data", "fetch", "wikitext2"]).contains("the nearest is `wikitext-2`"));
    let line = refusal(folder, &["train", "--task", "images", "--dataset", "tinyshakespeare"]);
    assert!(line.contains("task: tinyshakespeare is text"), "{line}");
}
