"""An evaluation as a table in the terminal."""

from __future__ import annotations

from rich.table import Table

from fleet.evaluation_result import Evaluation, success_by


def evaluation_table(evaluation: Evaluation) -> Table:
    """Return success on held-out objects: in all, per robot, per kind, and the baselines."""
    table = Table(
        title=f"release {evaluation.release_version} ({evaluation.network}); "
        f"objects: {evaluation.objects}",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    table.add_column("")
    table.add_column("success, 95 % interval", justify="right")
    table.add_column("attempts", justify="right")
    greedy = evaluation.select("greedy")
    rows = [("release", evaluation.held_out), ("random commands", evaluation.random)]
    by_robot = success_by(greedy, lambda attempt: attempt.robot)
    by_kind = success_by(greedy, lambda attempt: attempt.object_kind or "nothing")
    rows += [(f"  {name}", rate) for name, rate in {**by_robot, **by_kind}.items()]
    if evaluation.unseen.attempts:
        rows.append(("unseen camera (not in the total)", evaluation.unseen))
    for name, rate in rows:
        table.add_row(name, str(rate), str(rate.attempts))
    false = sum(one.success and one.reference_success is False for one in evaluation.attempts)
    claimed = sum(one.success for one in evaluation.attempts)
    table.add_row("false successes", f"{false} of {claimed} claimed", "")
    return table
