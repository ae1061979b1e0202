"""``fleet``: the operator's command line."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from tyro.conf import Positional
from tyro.extras import SubcommandApp

from protocol.errors import ConfigurationError, GraspFleetError

# Imports of what is slow to load stand in the commands: `fleet --help` should not wait for MuJoCo.

app = SubcommandApp()
episodes = SubcommandApp()
app.command(episodes, name="episodes", help="Look into the episode store.")

EXIT_ERROR = 1
EXIT_CONFIGURATION = 2
_PIPE_COLUMNS = 160


@app.command
def demo(
    robots: int = 4,
    minutes: float = 10.0,
    seed: int = 0,
    out: Path = Path("runs/demo"),
    robot: str = "robot_agent.robots.simulated:SimulatedRobot",
    camera: str = "robot_agent.cameras.simulated:SimulatedCamera",
    learner: Path | None = None,
    evaluate: bool = True,
) -> int:
    """Run a whole fleet on this machine: simulated robots learn to grasp, then are evaluated.

    Real agents and the real learner as processes, over encrypted TCP. Ctrl-C ends everything
    cleanly and keeps what was stored; the same command on the same folder goes on from there.

    Args:
        robots: how many robots.
        minutes: of collecting and learning, from the moment the learner is ready.
        seed: of robots, scenes and training.
        out: the run folder.
        robot: another robot driver, module:Class.
        camera: another camera driver, module:Class.
        learner: a TOML file with settings for learner.toml, such as network or [training].
        evaluate: measure the last release on objects that training never saw.
    """
    from fleet.demo import DemoPlan, run_demo
    from fleet.evaluation import EvaluationPlan
    from fleet.toml_text import load_table

    if robots < 1 or minutes <= 0 or seed < 0:
        raise ConfigurationError(
            f"--robots {robots} --minutes {minutes:g} --seed {seed}: robots and minutes must be "
            "above zero, the seed not below"
        )
    plan = DemoPlan(
        robots=robots,
        minutes=minutes,
        seed=seed,
        out=out,
        robot=robot,
        camera=camera,
        evaluation=EvaluationPlan(seed=seed) if evaluate else None,
        learner_options=load_table(learner) if learner is not None else {},
    )
    return run_demo(plan, _console())


@app.command
def enrol(
    robot: Positional[str],
    run: Path = Path("runs/demo"),
    bundle: Path | None = None,
    host: str | None = None,
) -> int:
    """Let a robot in: make its keys and a bundle to copy to it.

    Makes the learner's own keys and the operator's first, where there are none yet.
    The bundle holds the robot's secret key, the learner's public key, the key that releases are
    verified with, and the endpoints. A learner that runs notices at once.

    Args:
        robot: the robot's name.
        run: folder with learner.toml and keys.
        bundle: where the bundle goes; ROBOT-bundle by default.
        host: name or address under which the robot reaches the learner; by default the one
            that learner.toml binds to.
    """
    from fleet.enrolment import enrol_robot, ensure_learner_keys
    from fleet.operator import learner_address, registry_of
    from fleet.run_folder import RunFolder

    folder = RunFolder.existing(run)
    place = bundle or Path(f"{robot}-bundle")
    registry, address = registry_of(folder), learner_address(folder, host)
    ensure_learner_keys(address.keys, registry)
    enrol_robot(registry, robot, place, address)
    print(f"{robot} is enrolled; copy {place} to it and keep robot.secret to its owner")
    return 0


@app.command
def revoke(robot: Positional[str], run: Path = Path("runs/demo")) -> int:
    """Shut a robot out, also on a connection that is open now.

    Args:
        robot: the robot's name.
        run: folder with learner.toml and keys.
    """
    from fleet.enrolment import revoke_robot
    from fleet.operator import registry_of
    from fleet.run_folder import RunFolder

    revoke_robot(registry_of(RunFolder.existing(run)), robot)
    print(f"{robot} is shut out; enrol it again to let it back in")
    return 0


@app.command
def status(run: Path = Path("runs/demo"), json: bool = False) -> int:
    """Show the robots as the learner knows them: last seen, release, success, what is missing.

    Args:
        run: folder with learner.toml and keys.
        json: machine-readable.
    """
    from fleet.monitor import robot_table
    from fleet.operator import operator_connection
    from fleet.run_folder import RunFolder
    from fleet.status import StatusClient

    with StatusClient(*operator_connection(RunFolder.existing(run))) as client:
        reply = client.fetch()
    if json:
        _print_json(reply)
        return 0
    console = _console()
    console.print(
        f"release {reply.release_version}, {reply.episodes_stored} episodes stored, "
        f"learner up {reply.uptime_s:.0f} s",
        highlight=False,
    )
    console.print(robot_table(reply.robots))
    return 0


@episodes.command(name="list")
def list_episodes(
    run: Path = Path("runs/demo"),
    store: Path | None = None,
    robot: str | None = None,
    last: int = 20,
    json: bool = False,
) -> int:
    """List the newest episodes.

    Args:
        run: a run folder.
        store: an episode store's folder, instead of a run's.
        robot: only this robot's.
        last: how many.
        json: machine-readable, one object per line.
    """
    from fleet.episodes import episode_table, listing, newest

    found = newest(_store_folder(run, store), robot=robot, last=last)
    if json:
        for one in found:
            print(msgspec.json.encode(listing(one)).decode())
    else:
        _console().print(episode_table(found))
    return 0


@episodes.command(name="show")
def show_episode(
    episode: Positional[str],
    run: Path = Path("runs/demo"),
    store: Path | None = None,
    out: Path | None = None,
    json: bool = False,
) -> int:
    """Show one episode and draw its film strip.

    Args:
        episode: its id, or how the id begins.
        run: a run folder.
        store: an episode store's folder, instead of a run's.
        out: where the picture goes; EPISODE.png by default.
        json: machine-readable.
    """
    from fleet.episodes import describe, step_table
    from fleet.film_strip import draw_film_strip
    from fleet.store_reader import find_episode, open_store

    with open_store(_store_folder(run, store)) as opened:
        found, robot_id = find_episode(opened, episode)
    picture = out or Path(f"{found.episode_id}.png")
    draw_film_strip(found, picture)
    if json:
        _print_json({**describe(found, robot_id), "film_strip": str(picture)})
        return 0
    console = _console()
    for name, value in describe(found, robot_id).items():
        if name != "steps":
            console.print(f"{name}: {value}", highlight=False, markup=False)
    console.print(step_table(found))
    console.print(f"film strip: {picture}", highlight=False)
    return 0


@episodes.command(name="verify")
def verify_episodes(
    run: Path = Path("runs/demo"), store: Path | None = None, json: bool = False
) -> int:
    """Check every record and say per robot what is stored, missing, tombstoned, doubled.

    Exits with 1 when something is damaged, missing or doubled.

    Args:
        run: a run folder; its robots' outboxes are compared with the store.
        store: an episode store's folder, instead of a run's.
        json: machine-readable.
    """
    from fleet.episodes import verify

    verification = verify(_store_folder(run, store), run if store is None else None)
    if json:
        _print_json(verification)
    else:
        console = _console()
        console.print(verification.table())
        console.print(verification.verdict(), highlight=False, markup=False)
    return 0 if verification.sound else EXIT_ERROR


@app.command(name="evaluate")
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
    console = _console(stderr=json)
    with console.status("evaluating") as shown:

        def progress(done: int, total: int) -> bool:
            shown.update(f"evaluating {chosen.name}: {done} of {total} attempts")
            return True

        evaluation = evaluate(folder, chosen, plan, progress=progress)
    evaluation.write(folder.evaluation)
    if json:
        _print_json(evaluation)
    else:
        console.print(evaluation_table(evaluation))
    return 0


def main() -> None:
    """Run the command line; errors are one clear line on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        status = app.cli(prog="fleet", description="GraspFleet: the operator's tools.")
    except ConfigurationError as error:
        sys.exit(_say(error, EXIT_CONFIGURATION))
    except GraspFleetError as error:
        sys.exit(_say(error, EXIT_ERROR))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status)


def _say(error: GraspFleetError, status: int) -> int:
    print(f"fleet: {error}", file=sys.stderr)
    return status


def _console(*, stderr: bool = False) -> Console:
    """Return a console; where no terminal says how wide it is, tables may be wide."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_PIPE_COLUMNS)


def _store_folder(run: Path, store: Path | None) -> Path:
    from fleet.run_folder import RunFolder

    return store if store is not None else RunFolder.existing(run).store


def _print_json(value: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


if __name__ == "__main__":
    main()
