"""``fleet episodes``: looking into the episode store."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import msgspec
from tyro.conf import Positional
from tyro.extras import SubcommandApp

from fleet.commands.output import EXIT_ERROR, console, print_json, progress_bar, say
from protocol.errors import ConfigurationError, StoreError
from protocol.refusal_log import printable

episodes = SubcommandApp()

# Imports of what is slow to load stand in the commands: `fleet --help` should not wait for MuJoCo.


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
        store: an episode store's folder, instead of all of a run's.
        robot: only this robot's.
        last: how many.
        json: machine-readable, one object per line.
    """
    from fleet.episodes import episode_table, listing, newest

    if last < 1:
        raise ConfigurationError(f"--last {last}: one episode at least")
    folders = _store_folders(run, () if store is None else (store,))
    found = newest(folders, robot=robot, last=last)
    if json:
        for one in found:
            print(msgspec.json.encode(listing(one)).decode())
    else:
        screen = console()
        screen.print(episode_table(found, width=screen.width))
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
        store: an episode store's folder, instead of all of a run's.
        out: where the picture goes, a .png file; EPISODE.png by default.
        json: machine-readable.
    """
    from fleet.episodes import describe, step_table
    from fleet.film_strip import draw_film_strip
    from fleet.store_reader import find_episode, open_store

    folders = _store_folders(run, () if store is None else (store,))
    with ExitStack() as opened:
        stores = [opened.enter_context(open_store(folder)) for folder in folders]
        found, robot_id = find_episode(stores, episode)
    picture = out or Path(f"{found.episode_id}.png")
    draw_film_strip(found, picture)
    if json:
        print_json({**describe(found, robot_id), "film_strip": str(picture)})
        return 0
    screen = console()
    for name, value in describe(found, robot_id).items():
        if name != "steps":
            screen.print(f"{name}: {printable(str(value))}", highlight=False, markup=False)
    screen.print(step_table(found, width=screen.width))
    say(f"film strip: {picture}")
    return 0


@episodes.command(name="verify")
def verify_episodes(
    run: Path = Path("runs/demo"), store: tuple[Path, ...] = (), json: bool = False
) -> int:
    """Check every record and say per robot what is stored, retired, missing, tombstoned, doubled.

    Names every missing and damaged sequence. The stores of several gateways count together: a robot
    that moved has delivered a part to each. Exits with 1 when something is damaged, missing,
    doubled or in conflict.

    Args:
        run: a run folder; its robots' outboxes are compared with the stores.
        store: folders of episode stores, instead of a run's.
        json: machine-readable.
    """
    from fleet.verification import verify

    verification = verify(_store_folders(run, store), None if store else run)
    if json:
        print_json(verification)
    else:
        screen = console()
        screen.print(verification.table(width=screen.width))
        for line in [*verification.findings(), verification.verdict()]:
            screen.print(line, highlight=False, markup=False)
    return 0 if verification.sound else EXIT_ERROR


@episodes.command(name="export")
def export_episodes(
    to: Path,
    run: Path = Path("runs/demo"),
    store: Path | None = None,
    robot: str | None = None,
    json: bool = False,
) -> int:
    """Copy every whole episode of a store, also of a damaged one, into a new store.

    The copy has the ledger, tombstones, conflicts and retired keys as far as they can be read; a
    learner goes on with it under the same configuration once gateway.store names it. Exits with 1
    when something was lost. While it runs, a learner that writes to the store cannot use the room
    of retired episodes again: the store grows by what comes in meanwhile.

    Args:
        to: the new store's folder; must not be there yet.
        run: a run folder.
        store: an episode store's folder, instead of a run's; needed where a run has several.
        robot: only this robot's part.
        json: machine-readable.
    """
    from fleet.episodes import export_lines
    from learner.store.export import export_store

    source = _one_store(run, store)
    with progress_bar("records", shown=not json) as on_progress:
        report = export_store(source, to, robot=robot, on_progress=on_progress)
    if json:
        print_json(report)
    else:
        for line in export_lines(report, to):
            console().print(line, highlight=False, markup=False)
    return 0 if report.is_whole else EXIT_ERROR


def _one_store(run: Path, store: Path | None) -> Path:
    folders = _store_folders(run, () if store is None else (store,))
    if len(folders) > 1:
        names = ", ".join(map(str, folders))
        raise ConfigurationError(f"{run}: has {len(folders)} stores; choose with --store: {names}")
    return folders[0]


def _store_folders(run: Path, stores: tuple[Path, ...]) -> list[Path]:
    from fleet.run_folder import RunFolder

    found = list(stores) or RunFolder.existing(run).stores
    for folder in found:
        if not (folder / "data.mdb").is_file():
            # Said here: what is not there cannot be rescued with an export either.
            raise StoreError(f"episode store {folder}: there is none yet")
    return found
