"""A ServoGroup whose motors are emulated shafts in this process, in a time that sleeping passes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from protocol.errors import RobotError
from robot_agent.arms.servo_group import ServoFault, ServoReadings
from robot_agent.serial_bus.port import BusCounters
from tests.emulators.servo_mechanics import Drive, FreeShafts, Shaft

STEP_S = 0.005


class SteppedClock:
    """Time that passes when somebody sleeps, and takes the shafts along."""

    def __init__(self, mechanics: FreeShafts) -> None:
        self._mechanics = mechanics
        self._now_s = 0.0
        self.drives: dict[int, Drive] = {}
        self._events: list[tuple[float, Callable[[], object]]] = []

    def monotonic_s(self) -> float:
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        end_s = self._now_s + max(0.0, duration_s)
        while self._now_s < end_s - 1e-9:
            self._mechanics.step(self.drives, STEP_S)
            self._now_s += STEP_S
            due = [event for event in self._events if event[0] <= self._now_s]
            self._events = [event for event in self._events if event not in due]
            for _, happen in due:
                happen()

    def in_s(self, delay_s: float, happen: Callable[[], object]) -> None:
        """Have something happen once, later, while somebody sleeps."""
        self._events.append((self._now_s + delay_s, happen))


class ShaftServos:
    """Motors ``ids`` of the mechanics; at rest and switched off to begin with."""

    def __init__(self, ids: range, mechanics: FreeShafts, clock: SteppedClock) -> None:
        self.ids = ids
        self.mechanics = mechanics
        self.temperatures_c = np.full(len(ids), 30.0)
        self.voltage_v = 7.4
        self.faults: list[set[ServoFault]] = [set() for _ in ids]
        self.is_silent = False
        self.commands: list[NDArray[np.float64]] = []
        self.limit_share = 0.0
        self.counters = BusCounters()
        self.sag_rad = np.zeros(len(ids))
        """By which gravity keeps a motor below its goal."""
        self._clock = clock
        for servo_id in ids:
            mechanics.shafts.setdefault(servo_id, Shaft())
            clock.drives[servo_id] = Drive(
                is_on=False,
                goal_rad=0.0,
                max_speed_rad_s=4.0,
                max_acceleration_rad_s2=40.0,
                max_torque=1.0,
            )

    @property
    def positions_rad(self) -> NDArray[np.float64]:
        return np.array([self.mechanics.shafts[servo_id].position_rad for servo_id in self.ids])

    @property
    def goals_rad(self) -> NDArray[np.float64]:
        """What each motor was told; NaN where it is off."""
        drives = [self._clock.drives[servo_id] for servo_id in self.ids]
        told = [drive.goal_rad if drive.is_on else np.nan for drive in drives]
        return np.array(told) + self.sag_rad

    @property
    def torques(self) -> NDArray[np.float64]:
        """Of each motor, the limit; 0 where it is off."""
        drives = [self._clock.drives[servo_id] for servo_id in self.ids]
        return np.array([drive.max_torque if drive.is_on else 0.0 for drive in drives])

    def check_models(self) -> None:
        self._answer()

    def read(self) -> ServoReadings:
        self._answer()
        shafts = [self.mechanics.shafts[servo_id] for servo_id in self.ids]
        return ServoReadings(
            positions_rad=self.positions_rad,
            goals_rad=self.goals_rad,
            velocities_rad_s=np.array([shaft.velocity_rad_s for shaft in shafts]),
            loads=np.array([shaft.load for shaft in shafts]),
            temperatures_c=self.temperatures_c.copy(),
            voltages_v=np.full(len(self.ids), self.voltage_v),
            read_at_ns=time.time_ns(),
            faults=tuple(frozenset(one) for one in self.faults),
        )

    def command(
        self,
        positions_rad: NDArray[np.float64],
        *,
        speeds_rad_s: NDArray[np.float64],
        accelerations_rad_s2: NDArray[np.float64],
    ) -> None:
        self._answer()
        self.commands.append(positions_rad.copy())
        for index, servo_id in enumerate(self.ids):
            drive = self._clock.drives[servo_id]
            drive.goal_rad = float(positions_rad[index] - self.sag_rad[index])
            drive.max_speed_rad_s = float(speeds_rad_s[index])
            drive.max_acceleration_rad_s2 = float(accelerations_rad_s2[index])

    def set_torque(self, enabled: bool, limit_share: float) -> None:
        self._answer()
        self.limit_share = limit_share
        for servo_id in self.ids:
            drive = self._clock.drives[servo_id]
            if not drive.is_on:
                drive.goal_rad = self.mechanics.shafts[servo_id].position_rad
            drive.is_on, drive.max_torque = enabled, limit_share

    def close(self) -> None:
        pass

    def _answer(self) -> None:
        if self.is_silent:
            raise RobotError("servos do not answer")
