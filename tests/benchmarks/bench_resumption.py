"""Coming back: the curve of a training that is killed again and again beside one left alone.

    .venv/bin/python -m tests.benchmarks.bench_resumption [--seconds 60] [--picture FILE]

Both are ``python -m learner --offline`` on one store of a task that is learnt in seconds.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import msgspec
import numpy as np
from matplotlib.figure import Figure as Picture
from safetensors.numpy import load_file

from fleet.toml_text import toml_text
from tests.benchmarks.figures import Figure, Findings, add_out_option, report
from tests.learner.spot_task import SIDE_PX, fill_store

ATTEMPTS, VISITS = 400, 100
WITHIN_S = 600.0
Line = dict[str, float]


def begin(site: Path, out: str) -> subprocess.Popen[bytes]:
    """Start a training, or go on with it."""
    arguments = ["--config", site / "learner.toml", "--visits", str(VISITS), "--out", site / out]
    command = [sys.executable, "-m", "learner", *map(str, arguments), "--offline"]
    return subprocess.Popen([*command, str(site / "store")], stderr=subprocess.DEVNULL)


def make_site(site: Path) -> None:
    fill_store(site / "store", count=ATTEMPTS)
    table = {
        "run_folder": "run",
        "image_height_px": SIDE_PX,
        "image_width_px": SIDE_PX,
        "keys": {"server_secret": "s", "release_secret": "r", "registry": "registry"},
        "training": {
            "batch_size": 64,
            "held_out_fraction": 0.2,
            "learning_rate": 4e-4,
            "checkpoint_interval_s": 0.5,
        },
    }
    (site / "learner.toml").write_text(toml_text(table))


def checkpoint(site: Path, out: str) -> Path | None:
    return max((site / out / "checkpoints").glob("*.safetensors"), default=None)


def step_of(site: Path, out: str) -> int:
    found = checkpoint(site, out)
    return int(found.stem) if found else 0


def kill_at(site: Path, out: str, step: int) -> int:
    """Train until a checkpoint of ``step`` or later is there, then SIGKILL; return its step."""
    process = begin(site, out)
    try:
        end_s = time.monotonic() + WITHIN_S
        while step_of(site, out) < step and time.monotonic() < end_s:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return step_of(site, out)


def lines(site: Path, out: str) -> list[Line]:
    found = [msgspec.json.decode(one) for one in (site / out / "metrics.jsonl").open("rb")]
    return [line for line in found if "held_out_loss" in line]


def draw(alone: list[Line], killed: list[Line], kills: list[int], path: Path) -> None:
    """Draw both curves, and where the one was killed."""
    mpl.rcParams["svg.hashsalt"] = "resumption"
    picture = Picture(figsize=(6.4, 3.2), dpi=100, layout="constrained")
    axes = picture.add_subplot()
    for curve, style, label in [(alone, "-", "left alone"), (killed, "o", "killed and resumed")]:
        points = sorted((line["step"], line["held_out_loss"]) for line in curve)
        axes.plot(*zip(*points, strict=True), style, label=label, markersize=4)
    for number, step in enumerate(kills):
        label = "resumed from here after SIGKILL" if not number else None
        axes.axvline(step, color="grey", linestyle=":", label=label)
    axes.set(xlabel="training steps", ylabel="held-out log-loss", ylim=(0, None))
    axes.legend(frameon=False)
    picture.savefig(path)


def measure(site: Path, kills: int, picture: Path | None) -> list[Figure]:
    make_site(site)
    undisturbed = begin(site, "alone")
    status = undisturbed.wait(WITHIN_S)
    assert status == 0, status
    last = step_of(site, "alone")
    rng = np.random.default_rng()
    points = sorted(rng.integers(0.05 * last, 0.85 * last, kills).tolist())
    steps = [kill_at(site, "killed", point) for point in points]
    status = begin(site, "killed").wait(WITHIN_S)
    assert status == 0, status
    alone, killed = lines(site, "alone"), lines(site, "killed")
    if picture is not None:
        draw(alone, killed, steps, picture)
    return [
        Figure(
            name=f"values of the last checkpoint that differ after {kills} kills",
            value=float(differing(site)),
            unit="values",
            bound="<= 0",
            note=f"killed at checkpoints {steps} of {last} steps",
        )
    ]


def differing(site: Path) -> int:
    """Return how many numbers of the two last checkpoints are not the same bits."""
    one, other = (checkpoint(site, out) for out in ("alone", "killed"))
    assert one is not None
    assert other is not None
    assert one.name == other.name, f"{one.name} and {other.name}"
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    return sum(int((ours[name] != theirs[name]).sum()) for name in ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="about how long to take: 20 s for every kill"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw both curves")
    add_out_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), max(1, round(options.seconds / 20)), options.picture)
    settings = {"attempts": ATTEMPTS, "visits": VISITS, "batch": 64, "workers": 1}
    report(Findings(title="Coming back", settings=settings, figures=figures), options.out)


if __name__ == "__main__":
    main()
