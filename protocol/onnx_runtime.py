"""ONNX Runtime, told not to report to its makers.

Since 1.31 it keeps a database in the user's cache folder and sends what it notes there to a server
of Microsoft's. Import it from here: it looks at its environment when it is loaded.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
