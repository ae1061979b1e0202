"""Logging of every process of the learner."""

from __future__ import annotations

import logging

_TALKATIVE = ("onnx_ir", "onnxscript", "torch.onnx")


def configure_logs(level: str) -> None:
    """Log at ``level`` to standard error; the exporter's own progress only when it warns."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
