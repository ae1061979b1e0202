"""The episode record: an attempt with made-up numbers."""

from __future__ import annotations

import hashlib
import secrets
import struct
import time

import msgpack

RANDOM_POLICY = hashlib.sha256(b"graspfleet random policy").hexdigest()
HAND_EYE_MAP = [1.5, 0.0, 0.0, 0.0, 0.0, -1.5, -0.25, 0.125, 0.0, -0.5, -0.875, 0.5]
# The closing step's picture of the document's example: 8 x 8 pixels.
PICTURE = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb00430003020202020203020202030303030406040404"
    "0404080606050609080a0a090809090a0c0f0c0a0b0e0b09090d110d0e0f101011100a0c12131210130f1010"
    "10ffdb00430103030304030408040408100b090b101010101010101010101010101010101010101010101010"
    "1010101010101010101010101010101010101010101010101010ffc000110800080008030111000211010311"
    "01ffc40014000100000000000000000000000000000007ffc4001f1000000309000000000000000000000000"
    "001416172733356467828393ffc4001501010100000000000000000000000000000405ffc400171100030100"
    "00000000000000000000000000122161ffda000c03010002110311003f0015768c52e12a6a24c53847d988a3"
    "5b00c5d3ffd9"
)


def make_record(robot: str, release_version: int) -> bytes:
    """Return an episode record: one step that closes the gripper at once, and fails."""
    now_ns = time.time_ns()
    still = [0.0, 0.0, 0.0, 0.0, 1.0]
    step = {
        "kind": "close",
        "observation": {"pose": [0.1, 0.0, 0.05, 0.0], "opening_m": 0.08, "captured_at_ns": now_ns},
        "wished": still,
        "commanded": still,
        "reached": still,
        "predicted_best": None,
        "predicted_stay": None,
        "decision_ms": 0.0,
    }
    meta = {
        "episode_id": secrets.token_hex(16),
        "robot_id": robot,
        "task": "bin-picking",
        "mode": "random",
        "policy": {"release_version": release_version, "digest": RANDOM_POLICY},
        "started_at_ns": now_ns,
        "finished_at_ns": now_ns,
        "calibration": HAND_EYE_MAP,
        "hand_eye_map": HAND_EYE_MAP,
        "steps": [step],
        "outcome": {
            "label": "failure",
            "opening_after_close_m": 0.0,
            "opening_after_lift_m": 0.0,
            "opening_says_held": False,
            "drop_test_says_held": False,
            "drop_test_score": 0.0,
            "abort_reason": "",
            "reference": None,
        },
        "height_px": 8,
        "width_px": 8,
        "image_bytes": [len(PICTURE)] * 3,
    }
    packed = msgpack.packb(meta)
    return b"GFEP" + struct.pack("<HI", 1, len(packed)) + packed + 3 * PICTURE
