"""Rules and alerts: what they ask is documented, what they say leads somewhere, and they fire."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.deploy.documented_metrics import documented_metrics
from tests.deploy.promql import selected_metrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
Table = dict[str, Any]


RULES = [
    rule
    for path in sorted(FOLDER.glob("rules/*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
SCENARIOS = [
    scenario
    for path in sorted(FOLDER.glob("tests/*.yml"))
    for scenario in yaml.safe_load(path.read_text())["tests"]
]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; make monitoring-test needs it (docs/monitoring.md)")
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_configuration_and_rules():
    run(tool("promtool"), "check", "config", "prometheus.yml")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("tests/*.yml")), ids=lambda path: path.stem)
def test_promtool_finds_every_rule_as_its_scenarios_say(path: Path):
    run(tool("promtool"), "test", "rules", str(path))


def test_amtool_accepts_who_is_told():
    run(tool("amtool"), "check-config", "../alertmanager/alertmanager.yml")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_metrics_that_are_documented_or_recorded(rule: Table):
    known = {name for metric in documented_metrics() for name in metric.samples()}
    asked = selected_metrics(promql_parser.parse(rule["expr"]))
    assert asked - known - RECORDED - {"up"} == set()
    assert asked


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_it_is_and_leads_to_its_page(alert: Table):
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert alert["for"]
    annotations = alert["annotations"]
    assert annotations["summary"]
    assert annotations["description"]
    page = alert["labels"]["runbook"]
    assert annotations["runbook_url"] == f"{{{{ $externalLabels.grafana }}}}/d/runbook-{page}"
    text = (ROOT / "docs" / "runbooks" / f"{page}.md").read_text()
    assert text.startswith(f"# {alert['alert']}\n")
    assert f"{alert['labels']['severity']}" in text.splitlines()[2]
    for heading in ("## What it means", "## What to do", "## When it clears"):
        assert heading in text


def test_every_page_belongs_to_an_alert():
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages == {alert["labels"]["runbook"] for alert in ALERTS}


def test_the_table_of_alerts_says_what_the_rules_say():
    page = (ROOT / "docs" / "monitoring.md").read_text()
    rows = [line.split(" | ")[:3] for line in page.splitlines() if line.startswith("| [")]
    assert rows == [
        [
            f"| [{one['alert']}](runbooks/{one['labels']['runbook']}.md)",
            one["labels"]["severity"],
            one["for"],
        ]
        for one in ALERTS
    ]


def expectations(scenario: Table) -> Iterator[set[str]]:
    """Yield the alerts that a scenario expects to fire, for every moment that it looks."""
    for test in scenario["promql_expr_test"]:
        if "ALERTS" in test["expr"]:
            labels = [yaml_labels(sample["labels"]) for sample in test["exp_samples"]]
            yield {one["alertname"] for one in labels}


def yaml_labels(text: str) -> dict[str, str]:
    return {matcher.name: matcher.value for matcher in promql_parser.parse(text).matchers.matchers}


@pytest.mark.parametrize("alert", sorted({alert["alert"] for alert in ALERTS}))
def test_an_alert_has_a_scenario_in_which_it_fires_and_a_moment_in_which_it_does_not(alert: str):
    seen = [list(expectations(scenario)) for scenario in SCENARIOS]
    assert any(
        any(alert in firing for firing in moments) and any(alert not in one for one in moments)
        for moments in seen
    )


@pytest.mark.parametrize("record", sorted(RECORDED))
def test_a_recorded_rate_is_compared_with_a_value_or_alerted_on(record: str):
    compared = {
        name
        for scenario in SCENARIOS
        for test in scenario["promql_expr_test"]
        for name in selected_metrics(promql_parser.parse(test["expr"]))
    }
    used = {name for rule in RULES for name in selected_metrics(promql_parser.parse(rule["expr"]))}
    assert record in compared | used


def test_inhibitions_name_alerts_that_there_are():
    config = yaml.safe_load((FOLDER.parent / "alertmanager" / "alertmanager.yml").read_text())
    named = {
        name.strip('"')
        for rule in config["inhibit_rules"]
        for matcher in [*rule["source_matchers"], *rule["target_matchers"]]
        if matcher.startswith("alertname")
        for name in matcher.partition("=")[2].strip('~"').split("|")
        if "*" not in name
    }
    assert named - {alert["alert"] for alert in ALERTS} == set()
    assert named
