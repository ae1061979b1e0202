"""What an endpoint exports, read as Prometheus would."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import PATIENCE_S

Labels = frozenset[tuple[str, str]]


class Exported:
    """One scrape."""

    def __init__(self, endpoint: str) -> None:
        with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=PATIENCE_S) as answer:
            self.text: str = answer.read().decode()
        self.families: dict[str, Metric] = {}
        self._samples: dict[tuple[str, Labels], float] = {}
        for family in text_string_to_metric_families(self.text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            assert name not in self.families, f"{name} comes in two pieces"
            self.families[name] = family
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self._samples, f"{key} comes twice"
                self._samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float | None:
        """Return a sample's value; None when there is no such sample."""
        return self._samples.get((name, frozenset(labels.items())))

    def robots(self) -> set[str]:
        """Return every robot that anything is said of."""
        return {value for _, labels in self._samples for key, value in labels if key == "robot"}

    def complaints(self) -> str:
        """Return what promtool says against it; "" where it is not installed."""
        promtool = shutil.which("promtool")
        if promtool is None:
            # Read above by the library's own parser, which raises on what is malformed.
            return ""
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=self.text, capture_output=True, text=True
        )
        return checked.stdout + checked.stderr
