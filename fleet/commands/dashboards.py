"""``fleet dashboards``: what Grafana shows, as code, as files and as pictures."""

from __future__ import annotations

import time
from pathlib import Path

from tyro.extras import SubcommandApp

from fleet.commands.output import EXIT_ERROR, say
from protocol.errors import ConfigurationError

# Imports of what is slow to load, or an extra, stand in the commands.

dashboards = SubcommandApp()
_FOLDER = Path("deploy/grafana/dashboards")
_RUNBOOKS = Path("docs/runbooks")
_MOST_MINUTES = 10 * 366 * 24 * 60
_MOST_UNTIL_S = 10**11


@dashboards.command
def write(folder: Path = _FOLDER, runbooks: Path = _RUNBOOKS) -> int:
    """Write Grafana's dashboards as the code says, and remove those that it no longer makes.

    Args:
        folder: where they go; a folder of it is a folder in Grafana.
        runbooks: pages to show beside them, one for each alert.
    """
    _need_the_library(runbooks)
    from fleet.dashboards.files import write as write_files

    try:
        changed = write_files(folder, runbooks)
    except OSError as error:
        raise _not_written(folder, error) from error
    for path in changed:
        say(str(path))
    say("nothing changed" if not changed else f"{len(changed)} changed")
    return 0


@dashboards.command
def check(folder: Path = _FOLDER, runbooks: Path = _RUNBOOKS) -> int:
    """Compare the files with what the code says; exit with 1 when one differs.

    Args:
        folder: where they lie.
        runbooks: pages to show beside them, one for each alert.
    """
    _need_the_library(runbooks)
    from fleet.dashboards.files import differences

    found = list(differences(folder, runbooks))
    for place in found:
        say(f"{folder / place} differs: run 'fleet dashboards write'")
    return EXIT_ERROR if found else 0


@dashboards.command
def draw(
    prometheus: str,
    robot: str = "",
    folder: Path = _FOLDER,
    out: Path = Path("docs"),
    minutes: float = 180.0,
    until: float = 0.0,
    window: str = "",
) -> int:
    """Draw each dashboard from what a Prometheus has, to show people what they would get.

    The files are read and their queries asked, as Grafana does; only the drawing is our own.

    Args:
        prometheus: where it answers, such as http://localhost:9090.
        robot: which one the Robot dashboard shows; the one with the lowest success by default.
        folder: where the dashboards lie.
        out: the folder for dashboard_fleet.png and so on.
        minutes: shown, up to --until.
        until: UTC in seconds since 1970; 0 for now.
        window: success over 10m, 1h, 6h or 1d; the dashboards' own choice by default.
    """
    from fleet.dashboards.picture import Shown, draw_dashboard
    from fleet.dashboards.prometheus import Prometheus

    paths = sorted(folder.glob("GraspFleet/*.json"))
    if not paths:
        raise ConfigurationError(f"{folder}: there are no dashboards; give --folder")
    if not 0 < minutes <= _MOST_MINUTES or not 0 <= until <= _MOST_UNTIL_S:
        raise ConfigurationError(
            f"--minutes {minutes:g} --until {until:g}: minutes must be above zero and at most "
            f"{_MOST_MINUTES:,}, until from 0 to {_MOST_UNTIL_S:,}"
        )
    end_s = until or time.time()
    shown = Shown(
        prometheus=Prometheus(prometheus),
        start_s=end_s - 60 * minutes,
        end_s=end_s,
        variables={"window": window} if window else {},
        robot=robot,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(out, error) from error
    for path in paths:
        picture = out / f"dashboard_{path.stem}.png"
        draw_dashboard(path, shown, picture)
        say(str(picture))
    return 0


def _not_written(folder: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{error.filename or folder}: cannot be written: {error.strerror}")


def _need_the_library(runbooks: Path) -> None:
    try:
        import grafana_foundation_sdk  # noqa: F401 - whether it is there
    except ImportError:
        raise ConfigurationError(
            "dashboards are made with grafana-foundation-sdk: "
            "pip install --constraint constraints.txt '.[monitoring]'"
        ) from None
    if not runbooks.is_dir():
        raise ConfigurationError(f"{runbooks}: no such folder; run this in the repository")
