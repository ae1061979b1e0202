"""What a query asks for."""

from __future__ import annotations

import re
from typing import Any

from tests.deploy.documented_metrics import documented_metrics

_PARTS = ("lhs", "rhs", "expr", "param", "vector_selector")


def selected_metrics(node: Any) -> set[str]:
    """Return the names of all series that a parsed query selects."""
    if node is None:
        return set()
    found: set[str] = set()
    if hasattr(node, "matchers"):
        found |= {node.name} if node.name else _by_matchers(node)
    for part in _PARTS:
        found |= selected_metrics(getattr(node, part, None))
    for argument in getattr(node, "args", None) or []:
        found |= selected_metrics(argument)
    return found


def _by_matchers(node: Any) -> set[str]:
    """Return the documented metrics that ``__name__=~"..."`` picks; the pattern if none."""
    (pattern,) = (one.value for one in node.matchers.matchers if one.name == "__name__")
    known = {name for metric in documented_metrics() for name in metric.samples()}
    return {name for name in known if re.fullmatch(pattern, name)} or {pattern}
