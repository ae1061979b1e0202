"""``fleet stop``: the emergency stop from afar."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from fleet.commands.output import EXIT_NOT_WELL, say

# Imports of what is slow to load stand in the commands: `fleet --help` should not wait for them.


def stop(robot: Positional[str] = "", run: Path = Path("runs/demo"), all: bool = False) -> int:
    """Stop a robot, or all of them, at once; only a person beside it can let it go on.

    A motion under way ends, the arm holds still where it is, the agent delivers what it has and
    ends. Waits up to five seconds for the robot's own word. A robot that is not connected stops
    when it connects, whenever that is. Whoever has looked at it runs 'robot-agent resume' on the
    robot. Exit status: 0 all have stopped, 3 one has not said so or there is none, 1 nobody was
    reached.

    All gateways are told. One that is away hears of it from the others seconds after it is back; a
    robot that connects there sooner goes on until then.

    This goes over the network: where somebody may be hurt, use the switch of the arm's supply.

    Args:
        robot: its name.
        run: folder with learner.toml and keys.
        all: every robot of the fleet.
    """
    from fleet.operator import operator_connection
    from fleet.robot_stops import StopOrder
    from fleet.run_folder import RunFolder
    from protocol.errors import ConfigurationError

    if bool(robot) == all:
        raise ConfigurationError("fleet stop: name one robot, or say --all")
    outcome = StopOrder(*operator_connection(RunFolder.existing(run)), robot_id=robot).give()
    if not outcome.robots:
        say(f"nobody was stopped: no robot is enrolled at the learner of {run}; is --run right?")
    for state in outcome.robots:
        if state.confirmed_at_ns > state.ordered_at_ns:
            say(f"{state.robot_id} has stopped")
        elif state.confirmed_at_ns:
            say(f"{state.robot_id} has stopped, by an earlier order")
            say("  if it is off, this one waits for it: it stops again when it is started")
        else:
            why = state.trouble or "it has not said so yet"
            say(f"{state.robot_id} may not have stopped: {why}")
    for endpoint, why in outcome.untold_gateways.items():
        say(f"warning: gateway {endpoint} did not take the order: {why}")
    if outcome.untold_gateways:
        say("a robot that connects there goes on until the gateway hears of it from the others")
    return 0 if outcome.is_done else EXIT_NOT_WELL
