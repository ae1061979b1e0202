"""What a doctor looks at, in this order."""

from __future__ import annotations

from typing import Literal, get_args

Subject = Literal[
    "board",
    "disk",
    "clock",
    "keys",
    "release",
    "network",
    "stop",
    "calibration",
    "port",
    "robot",
    "reach",
    "gripper",
    "camera",
]
SUBJECTS: tuple[Subject, ...] = get_args(Subject)
