//! Invalid requests: one line each.

use crate::{dynamoe, refusal};

#[test]
fn invalid_requests_get_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("file"), "x").unwrap();
    std::fs::write(folder.join("bad.toml"), "tau = 0.5\ntau =").unwrap();
    for (arguments, part) in [
        (&["train", "--set", "tua=1"][..], "the nearest is `tau`"),
        (&["train", "--set", "tau=1.5"], "tau: 1.5 is "),
        (&["train", "--set", "layers=0"], "layers: 0 is "),
        (&["train", "--preset", "smal"], "the nearest is `small`"),
        (&["train", "--dataset", "mnits"], "the nearest is `mnist`"),
        (&["train", "--dataset", "mnist"], "dynamoe data fetch mnist"),
        (&["train", "--config", "missing.toml"], "cannot read missing.toml"),
        (&["train", "--config", "bad.toml"], "bad.toml: line 2: not valid TOML"),
        (&["train", "--threads", "0"], "threads: 0 is out of range"),
        (&["train", "--out-dir", "file"], "cannot create folder file"),
        (&["eval", "missing"], "missing: not a run folder"),
        (&["inspect", "hge"], "the nearest preset is `large`"),
        (&["bench", "step", "--size", "smal"], "setting size: `smal` is none of"),
        (&["bench", "step", "--batch", "0"], "setting batch: 0 is "),
        (&["bench", "step", "--norm", "psot"], "setting norm: "),
        (&["bench", "step", "--experts", "8,0"], "setting experts: [8, 0] is "),
        (&["bench", "gemm", "--threads", "0"], "threads: 0 is out of range"),
        (&["bench", "head", "--width", "64,0"], "setting width: 0 is "),
        (&["bench", "head", "--vocabulary", "1048576", "--width", "256"], "must stay below 2^28"),
        (&["bench", "accuracy", "--stride", "0"], "setting stride: 0 is "),
        (&["bench", "scaling", "--threads-list", "1,0"], "threads: 0 is out of range"),
        (&["bench", "roofline", "--svg", "missing/a.svg"], "cannot write missing/a.svg"),
        (&["data", "verify", "mnist"], "missing or corrupt"),
        (&["data", "fetch", "imagenet"], "no data set `imagenet`"),
    ] {
        let line = refusal(folder, arguments);
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
    for (arguments, part) in [
        (
            &["train", "--datset", "mnist"][..],
            "unexpected argument '--datset' found; tip: a similar argument exists: '--dataset'",
        ),
        (&["eval"], "required arguments were not provided: <RUN>"),
        (&["train", "--threads", "x"], "invalid value 'x' for '--threads <N>'"),
        (&["bench", "step", "--experts", "8,x"], "invalid value 'x' for '--experts <COUNTS>'"),
        (&["trian"], "unrecognized subcommand 'trian'"),
    ] {
        let output = dynamoe(folder, arguments);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), line.trim_end().lines().count()), (Some(2), 1), "{line}");
        assert!(line.starts_with("error: ") && line.contains(part), "{line}");
    }
    // Nothing was left behind by what was refused.
    assert!(!folder.join("runs").exists());
}
