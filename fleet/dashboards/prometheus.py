"""Asks a Prometheus what a dashboard would ask it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

from protocol.errors import ConfigurationError, GraspFleetError, TransientError

_TIMEOUT_S = 30.0


class RefusedQueryError(GraspFleetError):
    """Prometheus does not understand a query, or will not answer it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Values of one set of labels over time."""

    labels: Mapping[str, str]
    times_s: tuple[float, ...]
    """UTC seconds, ascending; a moment without a value is left out."""
    values: tuple[float, ...]

    @property
    def last(self) -> float:
        """The newest value; NaN without any."""
        return self.values[-1] if self.values else math.nan


class Prometheus:
    """The HTTP API of one Prometheus."""

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ConfigurationError(f"{url}: give Prometheus as http://host:port")
        self._url = url.rstrip("/")

    def latest(self, expr: str, at_s: float) -> list[Series]:
        """Return every series of ``expr`` at a moment of UTC.

        Raises:
            RefusedQueryError: Prometheus does not understand ``expr``.
            TransientError: it does not answer.
        """
        found = self._result("query", query=expr, time=f"{at_s:.3f}")
        return [_series(one["metric"], [one["value"]]) for one in found]

    def over(self, expr: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """Return every series of ``expr`` from ``start_s`` to ``end_s``, both UTC.

        Raises:
            RefusedQueryError: Prometheus does not understand ``expr``.
            TransientError: it does not answer.
        """
        span = {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:.3f}"}
        found = self._result("query_range", query=expr, **span)
        return [_series(one["metric"], one["values"]) for one in found]

    def _result(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        url = f"{self._url}/api/v1/{path}?{urlencode(parameters)}"
        try:
            with urlopen(url, timeout=_TIMEOUT_S) as reply:  # noqa: S310 - the scheme is checked
                answer = json.load(reply)
        except HTTPError as error:
            said = error.read().decode(errors="replace")
            if error.code >= 500:
                raise TransientError(f"Prometheus at {self._url} is not ready: {said}") from None
            raise RefusedQueryError(f"Prometheus refused {parameters['query']!r}: {said}") from None
        except (URLError, TimeoutError) as error:
            raise TransientError(f"Prometheus at {self._url} does not answer: {error}") from None
        data = answer["data"]
        if data["resultType"] not in ("vector", "matrix"):
            raise RefusedQueryError(
                f"{parameters['query']!r} gives a {data['resultType']}, and no series"
            )
        result: list[dict[str, Any]] = data["result"]
        return result


def _series(labels: Mapping[str, str], points: list[tuple[float, str]]) -> Series:
    return Series(
        labels=labels,
        times_s=tuple(float(time_s) for time_s, _ in points),
        values=tuple(float(value) for _, value in points),
    )
