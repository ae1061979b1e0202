"""A grasp attempt as a strip of pictures: what the robot saw, wished, expected and got."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from protocol.episode import Episode, GripperPose, ImageArray, Label, Step, StepKind
from protocol.errors import ConfigurationError
from protocol.hand_eye import HandEyeMap

_INK = "#1f2933"
_GREY = "#7b8794"
_TARGET = "#ffffff"
_HAND = "#ffd166"
_BEST = "#0b6e99"
_STAY = "#c8553d"
_VERDICT = {Label.SUCCESS: "#2f855a", Label.FAILURE: "#b83227", Label.ABORTED: _GREY}
_COLUMNS = 6


def draw_film_strip(episode: Episode, path: Path) -> None:
    """Write a PNG: the empty bin, every step with its commanded target, and the outcome.

    A white bracket marks the commanded target, drawn through the hand-eye map that the policy
    used; a yellow one marks where the hand was.

    Raises:
        ConfigurationError: ``path`` is no PNG's name or cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise ConfigurationError(f"{path}: a film strip is a PNG picture; name it {path.stem}.png")
    frames = len(episode.steps) + 2
    rows = -(-frames // _COLUMNS)
    columns = min(frames, _COLUMNS)
    figure = Figure(figsize=(1.95 * columns, 2.85 * rows + 0.3), dpi=160, facecolor="white")
    grid = figure.add_gridspec(
        2 * rows,
        columns,
        height_ratios=[1.0, 0.34] * rows,
        left=0.01,
        right=0.99,
        top=1 - 0.52 / (2.85 * rows + 0.3),
        bottom=0.02,
        hspace=0.06,
        wspace=0.05,
    )
    for index in range(frames):
        row, column = divmod(index, _COLUMNS)
        picture = figure.add_subplot(grid[2 * row, column])
        below = figure.add_subplot(grid[2 * row + 1, column])
        below.axis("off")
        _draw_frame(episode, index, picture, below)
    figure.suptitle(_headline(episode), x=0.012, ha="left", color=_INK, fontsize=10.5, y=0.985)
    try:
        figure.savefig(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error


def _draw_frame(episode: Episode, index: int, picture: Axes, below: Axes) -> None:
    if index == 0:
        _show(picture, episode.first_image, "the bin")
        _write(below, ["before the hand", "comes into view"])
    elif index <= len(episode.steps):
        step = episode.steps[index - 1]
        _show(picture, step.observation.image, f"{index}  {step.kind.value}")
        _draw_motion(picture, step, HandEyeMap(matrix=episode.hand_eye_map))
        _draw_prediction(below, step)
    else:
        _show(picture, episode.last_image, "after the drop test")
        _draw_verdict(picture, below, episode)


def _show(axes: Axes, image: ImageArray, title: str) -> None:
    axes.imshow(image, extent=(-1, 1, 1, -1), interpolation="lanczos")
    axes.set_xlim(-1, 1)
    axes.set_ylim(1, -1)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#cbd2d9")
    axes.set_title(title, fontsize=9, color=_INK, loc="left", pad=3)


def _draw_motion(axes: Axes, step: Step, hand_eye_map: HandEyeMap) -> None:
    here = step.observation.pose
    target = here.moved_by(step.commanded)
    opening_m = max(step.observation.opening_m, 0.02)
    _draw_jaw(axes, hand_eye_map.project(_jaw(here, opening_m)), _HAND, 1.2)
    _draw_jaw(axes, hand_eye_map.project(_jaw(target, opening_m)), _TARGET, 1.8)


def _jaw(pose: GripperPose, opening_m: float, finger_m: float = 0.02) -> NDArray[np.float64]:
    """Return float64[4, 3]: a bracket over the two finger tips, base frame."""
    across = np.array([-np.sin(pose.yaw_rad), np.cos(pose.yaw_rad), 0.0]) * opening_m / 2
    middle = np.array([pose.x_m, pose.y_m, pose.z_m])
    up = np.array([0.0, 0.0, finger_m])
    return np.stack([middle - across, middle - across + up, middle + across + up, middle + across])


def _draw_jaw(axes: Axes, uv: NDArray[np.float64], colour: str, width: float) -> None:
    axes.plot(uv[:, 0], uv[:, 1], color="black", linewidth=width + 1.4, alpha=0.45)
    axes.plot(uv[:, 0], uv[:, 1], color=colour, linewidth=width)


def _draw_prediction(axes: Axes, step: Step) -> None:
    move = step.commanded
    distance_mm = 1000 * float(np.linalg.norm([move.dx_m, move.dy_m, move.dz_m]))
    motion = f"{distance_mm:.0f} mm, turn {np.degrees(move.rotation_rad):+.0f}°"
    if step.kind == StepKind.CLOSE:
        motion = "closes here"
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.text(0, 0.86, motion, fontsize=7.5, color=_GREY, va="center")
    if step.predicted_best is None or step.predicted_stay is None:
        axes.text(0, 0.5, "random command", fontsize=7.5, color=_GREY, va="center")
        return
    stay_name = "close" if step.kind == StepKind.CLOSE else "stay"
    for height, name, value, colour in (
        (0.56, "move", step.predicted_best, _BEST),
        (0.26, stay_name, step.predicted_stay, _STAY),
    ):
        axes.barh(height, 0.5, 0.17, left=0.24, color="#e4e7eb")
        axes.barh(height, 0.5 * value, 0.17, left=0.24, color=colour)
        axes.text(0, height, name, fontsize=7.5, color=_INK, va="center")
        axes.text(0.78, height, f"{value:.0%}", fontsize=7.5, color=_INK, va="center")


def _draw_verdict(picture: Axes, below: Axes, episode: Episode) -> None:
    outcome = episode.outcome
    colour = _VERDICT[outcome.label]
    for spine in picture.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(2.5)
    lines = [
        f"opening {1000 * outcome.opening_after_lift_m:.1f} mm",
        f"drop test: {'held' if outcome.drop_test_says_held else 'not held'}",
    ]
    if outcome.label == Label.ABORTED:
        lines = [outcome.abort_reason[:28]]
    elif outcome.reference is not None:
        truth = "held" if outcome.reference.success else "not held"
        lines.append(f"in truth: {truth} ({outcome.reference.object_kind or 'nothing'})")
    below.text(
        0, 0.86, outcome.label.value.upper(), fontsize=9, color=colour, va="center", weight="bold"
    )
    _write(below, lines, top=0.6)


def _write(axes: Axes, lines: list[str], top: float = 0.86) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for index, line in enumerate(lines):
        axes.text(0, top - 0.25 * index, line, fontsize=7.5, color=_GREY, va="center")


def _headline(episode: Episode) -> str:
    version = episode.policy.release_version
    policy = f"release {version}" if version else "no release yet"
    return (
        f"{episode.outcome.label.value.capitalize()}: {episode.robot_id}, "
        f"{episode.mode.value} attempt, {policy}"
    )
