"""``fleet demo``: a whole fleet on one machine, from nothing to a report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from fleet.conclusion import conclude
from fleet.demo_lock import only_demo_in
from fleet.evaluation import EvaluationPlan, EvaluationStoppedError, evaluate
from fleet.evaluation_result import Evaluation
from fleet.fleet_files import (
    SIMULATED_CAMERA,
    SIMULATED_ROBOT,
    FleetPlan,
    prepare_run_folder,
    robot_name,
)
from fleet.local_fleet import FleetEndedError, LocalFleet
from fleet.monitor import Monitor, Progress
from fleet.run_folder import FleetRecord, RunFolder
from fleet.stop_request import StopRequest
from protocol.errors import ConfigurationError, GraspFleetError
from protocol.messages import StatusReply

_INTERVAL_S = 0.5
_LEARNER_START_S = 180.0
_DRAIN_S = 90.0
_LEARNER_END_S = 75.0
"""More than the learner itself allows its parts."""
_RECORD_INTERVAL_S = 5.0
INTERRUPTED_STATUS = 130


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoPlan:
    """What the command line asked for."""

    robots: int
    minutes: float
    """Of collecting and learning, from the moment the learner is ready."""
    seed: int
    out: Path
    robot: str = SIMULATED_ROBOT
    arm: str = ""
    """Of the simulated robots; "" for gantries."""
    camera: str = SIMULATED_CAMERA
    evaluation: EvaluationPlan | None
    """None leaves the evaluation out."""
    learner_options: Mapping[str, Any] = field(default_factory=dict)
    """Laid over ``learner.toml``."""
    learner_options_name: str = "learner options"
    """What an error calls them: their file."""


class RobotNotHeardError(GraspFleetError):
    """A robot was started and never connected."""


class Demo:
    """One session of a fleet in its run folder."""

    def __init__(self, plan: DemoPlan, monitor: Monitor, stop: StopRequest) -> None:
        self._plan = plan
        self._monitor = monitor
        self._stop = stop
        self._folder = RunFolder(root=plan.out.resolve())
        self._began = time.monotonic()
        self._status: StatusReply | None = None
        self._status_at = self._began
        self._fleet = LocalFleet(
            self._folder, [robot_name(index) for index in range(plan.robots)], say=monitor.note
        )
        self._record = FleetRecord()
        self._heard: set[str] = set()
        self._recorded_at = 0.0

    def run(self) -> int:
        """Collect, learn, evaluate, report; return the exit status.

        Raises:
            ConfigurationError: a file or option is wrong.
            FleetEndedError: the learner or all agents ended; what was stored is reported first.
            RobotNotHeardError: a robot never connected; the others' work is reported first.
        """
        self._prepare()
        failure: FleetEndedError | None = None
        try:
            self._learn()
        except FleetEndedError as error:
            failure = error
            self._fleet.kill()
        except BaseException:
            self._fleet.kill()
            raise
        evaluation = None if failure else self._evaluate()
        self._report(evaluation)
        if failure:
            raise failure
        if self._stop.made:
            return INTERRUPTED_STATUS
        self._refuse_unheard()
        return 0

    def _prepare(self) -> None:
        plan = self._plan
        self._record = FleetRecord.read(self._folder.fleet_record)
        if self._folder.fleet_record.is_file() and self._record.seed != plan.seed:
            raise ConfigurationError(
                f"{plan.out}: was begun with --seed {self._record.seed}, and its robots were drawn "
                f"from that; go on with it, or give --seed {plan.seed} another --out"
            )
        self._record.seed = plan.seed
        self._record.interrupted = False
        prepare_run_folder(
            self._folder,
            FleetPlan(
                robots=plan.robots,
                seed=plan.seed,
                session=len(self._record.sessions),
                driver=plan.robot,
                arm=plan.arm,
                camera=plan.camera,
                learner_options=plan.learner_options,
                learner_options_name=plan.learner_options_name,
            ),
        )

    def _learn(self) -> None:
        """Run learner and agents for the time that was asked for, then end them in order."""
        self._fleet.start_learner()
        if self._wait_for_learner():
            self._record.open_session()
            self._fleet.start_agents()
            end = time.monotonic() + 60 * self._plan.minutes
            while time.monotonic() < end and not self._stop.wait(_INTERVAL_S):
                self._fleet.tend()
                self._look(end - time.monotonic())
            self._drain()
        self._monitor.show(Progress(phase="ending the learner", left_s=None), self._status)
        self._fleet.end_learner(_LEARNER_END_S)
        self._record.interrupted = self._stop.made
        self._keep_record()

    def _wait_for_learner(self) -> bool:
        """Wait until the gateway answers; False when a person stopped the demo first."""
        began = time.monotonic()
        while (waited_s := time.monotonic() - began) < _LEARNER_START_S:
            if self._stop.wait(0.1):
                return False
            self._fleet.tend()
            detail = f"since {waited_s:.0f} s"
            self._monitor.show(
                Progress(phase="starting the learner", left_s=None, detail=detail), None
            )
            self._status = self._fleet.status(_INTERVAL_S)
            if self._status is not None:
                return True
        raise FleetEndedError(
            f"the learner was not ready within {_LEARNER_START_S:.0f} s; see "
            f"{self._folder.logs / 'learner.log'}"
        )

    def _drain(self) -> None:
        """Let the agents finish, and take the final status while the learner still answers."""
        self._record.extend_session()
        self._monitor.show(Progress(phase="emptying the outboxes", left_s=None), self._status)
        self._fleet.end_agents(_DRAIN_S)
        self._note_status(self._fleet.status(timeout_s=5.0))
        if self._status is not None:
            self._record.releases_published += self._status.releases_published
            self._record.release_latency_ms += self._status.release_latency_ms

    def _look(self, left_s: float) -> None:
        status = self._fleet.status(timeout_s=2.0)
        self._note_status(status)
        silent_s = time.monotonic() - self._status_at
        detail = "" if status is not None else f"no answer for {silent_s:.0f} s, figures from then"
        self._monitor.show(Progress(phase="learning", left_s=left_s, detail=detail), self._status)
        if time.monotonic() - self._recorded_at > _RECORD_INTERVAL_S:
            self._recorded_at = time.monotonic()
            self._record.extend_session()
            self._keep_record()

    def _note_status(self, status: StatusReply | None) -> None:
        if status is not None:
            self._status, self._status_at = status, time.monotonic()
            self._heard |= {one.robot_id for one in status.robots if one.last_seen_s >= 0}

    @property
    def _unheard(self) -> list[str]:
        """Robots of this session that never connected."""
        return [
            name for name in map(robot_name, range(self._plan.robots)) if name not in self._heard
        ]

    def _refuse_unheard(self) -> None:
        if self._unheard:
            raise RobotNotHeardError(
                f"{', '.join(self._unheard)} never connected to the learner; see "
                f"{self._folder.logs / self._unheard[0]}.log"
            )

    def _keep_record(self) -> None:
        """Write what only this process knows, so that it survives this process."""
        record = self._record
        for name, peak in self._fleet.peak_resident_mb.items():
            record.peak_resident_mb[name] = max(peak, record.peak_resident_mb.get(name, 0.0))
        record.write(self._folder.fleet_record)

    def _evaluate(self) -> Evaluation | None:
        release = self._folder.newest_release()
        plan = self._plan.evaluation
        if plan is None or self._stop.made:
            return None
        if release is None:
            self._monitor.note(
                "there is no release yet, so there is nothing to evaluate: the first one takes "
                "minutes, more of them on a busy machine; the same command again goes on from here"
            )
            return None
        if self._plan.robot != SIMULATED_ROBOT:
            self._monitor.note("held-out scenes can be made in simulation only: not evaluated")
            return None

        def progress(done: int, total: int) -> bool:
            self._monitor.show(
                Progress(phase="evaluating", left_s=None, detail=f"{done} of {total}"),
                self._status,
            )
            return not self._stop.made

        progress(0, plan.greedy + plan.random + plan.unseen)
        try:
            evaluation = evaluate(self._folder, release, plan, progress=progress)
        except EvaluationStoppedError:
            return None
        except (GraspFleetError, BrokenProcessPool) as error:
            # What was learnt is reported all the same.
            self._monitor.note(f"not evaluated: {error}")
            return None
        evaluation.write(self._folder.evaluation)
        return evaluation

    def _report(self, evaluation: Evaluation | None) -> None:
        self._monitor.show(Progress(phase="writing the report", left_s=None), self._status)
        record = self._record
        for name, count in self._fleet.restarts.items():
            record.restarts[name] = record.restarts.get(name, 0) + count
        record.interrupted = self._stop.made
        record.wall_s = round(record.wall_s + time.monotonic() - self._began, 1)
        self._keep_record()
        for line in conclude(self._folder, record, evaluation, unheard=self._unheard):
            self._monitor.say_last(line)


def run_demo(plan: DemoPlan, console: Console) -> int:
    """Run one session and return the exit status.

    Raises:
        ConfigurationError: a file or option is wrong, or a demo runs in the folder already.
        FleetEndedError: the learner or all agents ended.
    """
    with only_demo_in(plan.out), StopRequest() as stop, Monitor(console) as monitor:
        try:
            return Demo(plan, monitor, stop).run()
        except KeyboardInterrupt:  # the second one
            monitor.say_last("ended at once; what was stored is kept")
            return INTERRUPTED_STATUS
