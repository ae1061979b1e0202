"""``fleet``: the operator's command line."""

from __future__ import annotations

import logging
import os
import sys

from tyro.extras import SubcommandApp

from fleet.commands.dashboards import dashboards
from fleet.commands.episodes import episodes
from fleet.commands.health import status, top
from fleet.commands.keys import rotate_key
from fleet.commands.output import EXIT_CONFIGURATION, EXIT_ERROR
from fleet.commands.releases import releases
from fleet.commands.robots import enrol, revoke
from fleet.commands.stops import stop
from fleet.commands.trials import demo, evaluate_release
from protocol.configuration import refuse_repeated_options
from protocol.errors import ConfigurationError, GraspFleetError

app = SubcommandApp()
app.command(demo)
app.command(enrol)
app.command(revoke)
app.command(stop)
app.command(status)
app.command(top)
app.command(rotate_key, name="rotate-key", help="Change the learner's key; no robot is locked out.")
app.command(episodes, name="episodes", help="Look into the episode store.")
app.command(releases, name="release", help="List, pin and roll back releases.")
app.command(name="evaluate")(evaluate_release)
app.command(dashboards, name="dashboards", help="Write, check and draw Grafana's dashboards.")


def main() -> None:
    """Run the command line; errors are one clear line on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        refuse_repeated_options(sys.argv[1:])
        status = app.cli(prog="fleet", description="GraspFleet: the operator's tools.")
    except ConfigurationError as error:
        sys.exit(_say(error, EXIT_CONFIGURATION))
    except GraspFleetError as error:
        sys.exit(_say(error, EXIT_ERROR))
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough. Python would flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status)


def _say(error: GraspFleetError, status: int) -> int:
    print(f"fleet: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
