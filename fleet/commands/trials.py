"""Trying it out: a whole fleet on one machine, and the measure of a release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.constructors import PrimitiveConstructorSpec

from fleet.commands.output import console, print_json, progress_lines
from protocol.errors import ConfigurationError

_YEAR_MIN = 366 * 24 * 60

# Imports of what is slow to load stand in the commands: `fleet --help` should not wait for MuJoCo.


def _new_folder(words: list[str]) -> Path:
    """Return the path of a folder to write to; an empty one would be the current directory."""
    if not words[0]:
        raise ConfigurationError("--out is empty: name a folder")
    return Path(words[0])


_NEW_FOLDER = PrimitiveConstructorSpec(
    nargs=1,
    metavar="PATH",
    instance_from_str=_new_folder,
    is_instance=lambda value: isinstance(value, Path),
    str_from_instance=lambda path: [str(path)],
)


def demo(
    robots: int = 4,
    minutes: float = 10.0,
    seed: int = 0,
    out: Annotated[Path, _NEW_FOLDER] = Path("runs/demo"),
    robot: str = "robot_agent.robots.simulated:SimulatedRobot",
    camera: str = "robot_agent.cameras.simulated:SimulatedCamera",
    learner: Path | None = None,
    evaluate: bool = True,
) -> int:
    """Run a whole fleet on this machine: simulated robots learn to grasp, then are evaluated.

    Real agents and the real learner as processes, over encrypted TCP. Ctrl-C ends everything
    cleanly and keeps what was stored; the same command on the same folder goes on from there.
    Exits with 1 when the learner ended by itself or a robot never connected.

    Args:
        robots: how many robots.
        minutes: of collecting and learning, from the moment the learner is ready.
        seed: of robots, scenes and training.
        out: the run folder.
        robot: so101 or wx200, to simulate that arm with its joints, limits and lag (see
            docs/kinematics.md); or another robot driver, module:Class.
        camera: another camera driver, module:Class.
        learner: a TOML file with settings for learner.toml, such as network or [training].
        evaluate: measure the last release on objects that training never saw.
    """
    from fleet.demo import DemoPlan, run_demo
    from fleet.evaluation import EvaluationPlan
    from fleet.fleet_files import MOST_ROBOTS, MOST_SEED, driver_and_arm
    from fleet.toml_text import load_table

    if not 1 <= robots <= MOST_ROBOTS or not 0 < minutes <= _YEAR_MIN or not 0 <= seed <= MOST_SEED:
        raise ConfigurationError(
            f"--robots {robots} --minutes {minutes:g} --seed {seed}: robots must be from 1 to "
            f"{MOST_ROBOTS}, minutes above zero and at most {_YEAR_MIN}, the seed from 0 to "
            f"{MOST_SEED}"
        )
    driver, arm = driver_and_arm(robot)
    plan = DemoPlan(
        robots=robots,
        minutes=minutes,
        seed=seed,
        out=out,
        robot=driver,
        arm=arm,
        camera=camera,
        evaluation=EvaluationPlan(seed=seed) if evaluate else None,
        learner_options=load_table(learner) if learner is not None else {},
        learner_options_name=str(learner),
    )
    return run_demo(plan, console())


def evaluate_release(
    run: Path = Path("runs/demo"),
    release: Path | None = None,
    attempts: int = 400,
    random_attempts: int = 200,
    unseen_attempts: int = 100,
    max_moves: int = 10,
    seed: int = 0,
    json: bool = False,
) -> int:
    """Measure a release on objects that training never saw, against random commands.

    Args:
        run: a run folder; its robots are measured, the result goes to evaluation.json.
        release: a release file; the run's newest by default.
        attempts: with the release, over all robots.
        random_attempts: with random commands, on the same scenes.
        unseen_attempts: with the release, on a camera that training never saw.
        max_moves: per attempt.
        seed: of the unseen camera's pose.
        json: machine-readable.
    """
    from fleet.evaluation import EvaluationPlan, evaluate
    from fleet.evaluation_report import evaluation_table
    from fleet.run_folder import RunFolder

    folder = RunFolder.existing(run)
    chosen = release or folder.newest_release()
    if chosen is None:
        raise ConfigurationError(f"{run}: there is no release to evaluate yet")
    plan = EvaluationPlan(
        greedy=attempts,
        random=random_attempts,
        unseen=unseen_attempts,
        max_moves=max_moves,
        seed=seed,
    )
    with progress_lines(f"evaluating {chosen.name}") as show:

        def progress(done: int, total: int) -> bool:
            show(done, total)
            return True

        evaluation = evaluate(folder, chosen, plan, progress=progress)
    evaluation.write(folder.evaluation)
    if json:
        print_json(evaluation)
    else:
        console().print(evaluation_table(evaluation))
    return 0
