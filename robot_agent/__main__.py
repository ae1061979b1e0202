"""``robot-agent``: the command line of one robot."""

from __future__ import annotations

import os
import sys

from tyro.extras import SubcommandApp

from protocol.configuration import refuse_repeated_options
from protocol.errors import ConfigurationError, GraspFleetError, SafetyFault
from robot_agent.commands.calibrate import calibrate
from robot_agent.commands.check import check
from robot_agent.commands.resume import resume
from robot_agent.commands.run import run

CONFIGURATION_STATUS, FAILURE_STATUS, SAFETY_STATUS, INTERRUPTED_STATUS = 2, 1, 3, 130

DESCRIPTION = """The agent of one gripper robot.

Exit status: 0 stopped as asked, 1 failure, 2 wrong configuration, 3 safety fault (only a person may
start it again), 130 interrupted."""

app = SubcommandApp()
# `robot-agent --config robot.toml` is `robot-agent run --config robot.toml`.
app.command(is_default=True)(run)
app.command(calibrate)
app.command(check)
app.command(resume)


def main() -> None:
    """Run the command line; errors are one clear line on stderr."""
    try:
        refuse_repeated_options(sys.argv[1:])
        status = app.cli(prog="robot-agent", description=DESCRIPTION)
    except ConfigurationError as error:
        sys.exit(_said(error, CONFIGURATION_STATUS))
    except SafetyFault as error:
        sys.exit(_said(error, SAFETY_STATUS))
    except GraspFleetError as error:
        sys.exit(_said(error, FAILURE_STATUS))
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough. Python would flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILURE_STATUS)
    except KeyboardInterrupt:
        sys.stderr.write("\nrobot-agent: interrupted\n")
        sys.exit(INTERRUPTED_STATUS)
    sys.exit(status)


def _said(error: GraspFleetError, status: int) -> int:
    sys.stderr.write(f"robot-agent: {error}\n")
    return status


if __name__ == "__main__":
    main()
