#!/usr/bin/env python3
"""Kills trainings at random moments and checks that each resumes to the bits of an undisturbed one.

    cargo build --release
    python3 tests/kills.py --kills 200

Every second kill strikes while a file is being written (a temporary name is there), the others at a moment drawn
uniformly over the whole run, before its first checkpoint included. One resumption in three is killed as well, and one
in five goes back to an older checkpoint. Then `dynamoe resume` has to come to the same digests, the same digests along the way and the same lines of metrics.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

TRAIN = ["--preset", "tiny", "--epochs", "12", "--set", "digest_every=25"]
KEEP = ["--quiet", "--keep-last", "3"]
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}


def result(run):
    """Everything that must not depend on a kill."""
    summary = json.loads((run / "summary.json").read_text())
    manifest = json.loads((run / "manifest.json").read_text())
    same = {key: summary[key] for key in ("final", "best", "digests", "layers", "steps", "epochs_to_95")}
    return same, manifest["chain"], (run / "metrics.jsonl").read_text()


def being_written(run):
    """Whether some file of the run has its temporary name."""
    folders = [run, run / "checkpoints" / "last", run / "checkpoints" / "best"]
    return any(next(folder.glob("*.tmp"), None) for folder in folders)


def older(run):
    """The checkpoint to go on from: the newest, or now and then one before it."""
    kept = [path.name for path in (run / "checkpoints").glob("step-*") if any(path.glob("*.safetensors"))]
    return random.choice(kept) if kept and random.random() < 0.2 else "last"


def kill(command, run, whole_s, writing):
    """Starts the command and kills it; returns whether it was still at work, and whether a file was half written."""
    process = subprocess.Popen(command, **QUIET)
    end = time.monotonic() + random.uniform(0.0, whole_s)
    while process.poll() is None:
        late = time.monotonic() > end
        if late and (not writing or being_written(run)):
            break
        time.sleep(0.0002 if writing else 0.001)
    alive = process.poll() is None
    process.kill()
    error = process.communicate()[1]
    if not alive and process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed by itself: {error}")
    return alive, being_written(run)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--program", default="target/release/dynamoe")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("train", nargs="*", help="more flags for train, after --")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="dynamoe-kills-"))
    train = lambda run: [arguments.program, "train", *TRAIN, *KEEP, *arguments.train, "--out-dir", str(run)]
    resume = lambda run: [arguments.program, "resume", *KEEP, "--checkpoint", older(run), str(run)]

    start = time.monotonic()
    subprocess.run(train(folder / "whole"), check=True)
    whole_s = time.monotonic() - start
    expected = result(folder / "whole")

    kills = half_written = unborn = runs = same = 0
    while kills < arguments.kills:
        run = folder / f"run-{runs}"
        command = train(run)
        while True:
            alive, half = kill(command, run, whole_s, writing=kills % 2 == 1)
            kills += alive
            half_written += half
            # Without config.toml there is no run yet: its command starts it again.
            unborn += alive and not (run / "config.toml").exists()
            command = resume(run) if (run / "config.toml").exists() else train(run)
            if not alive or (run / "summary.json").exists() or random.random() > 1 / 3:
                break
        if not (run / "summary.json").exists():
            done = subprocess.run(command, **QUIET)
            if done.returncode != 0:
                sys.exit(f"{' '.join(command)} failed after a kill: {done.stderr}")
        runs += 1
        left = [path for path in run.rglob("*.tmp")]
        if result(run) == expected and not left:
            same += 1
            shutil.rmtree(run)
        else:
            print(f"{run} differs from {folder / 'whole'} {left}")
        if sys.stderr.isatty():
            print(f"\r{kills} kills, {same} of {runs} runs the same", end="", file=sys.stderr)
    print(
        f"{kills} kills, {half_written} of them with a file half written, {unborn} before there was a run: "
        f"{same} of {runs} runs came to the digest of an undisturbed one, {expected[0]['digests']['final'][:16]}"
    )
    if same < runs:
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
