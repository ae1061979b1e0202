"""What a robot or a learner computes is nobody else's business."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.delivery_site import ROOT

LOADS = re.compile(r"^\s*(import|from) onnxruntime\b", re.MULTILINE)
SESSION = """
from tests.releases import make_encode_graph
from protocol.onnx_runtime import onnxruntime
onnxruntime.InferenceSession(make_encode_graph(), providers=["CPUExecutionProvider"])
"""


def test_onnx_runtime_keeps_no_record_for_its_makers(tmp_path: Path):
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))
    }
    subprocess.run(
        [sys.executable, "-c", SESSION],
        cwd=ROOT,
        env=environment | {"HOME": str(tmp_path)},
        check=True,
    )
    assert [path.name for path in tmp_path.rglob("*onnxruntime*")] == []


def test_nothing_of_ours_loads_it_in_another_way():
    own = [path for room in ("protocol", "robot_agent", "learner", "fleet") for path in files(room)]
    found = [path.name for path in own if LOADS.search(path.read_text())]
    assert found == ["onnx_runtime.py"]


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))
