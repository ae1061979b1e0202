"""What happens is told on standard output, one JSON object a line."""

from __future__ import annotations

import json
import sys
from typing import Any


def tell(event: str, **facts: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()
