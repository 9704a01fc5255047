"""The alert rules and their tries hang together; what they name is compared with a real worker in
``tests/integration/test_metrics.py``.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "observability"


def load(path: Path) -> Any:
    """Read a YAML file."""
    return yaml.safe_load(path.read_text())


RULES = [rule for group in load(FOLDER / "alerts.yml")["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    """Given a rule, then it has a severity, a sentence, and a paragraph in the runbook."""
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+m", rule.get("for", "0m"))
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert rule["annotations"]["summary"].endswith(".")
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^### (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {heading.lower() for heading in headings}
    assert rule["alert"] in headings


def test_every_alert_is_tried_both_ways() -> None:
    """Given the tries for promtool, then each alert is silent in one and given in another."""
    tries = [one for test in load(FOLDER / "alerts.test.yml")["tests"] for one in test["alert_rule_test"]]
    names = {rule["alert"] for rule in RULES}
    assert {one["alertname"] for one in tries if "exp_alerts" in one} == names
    assert {one["alertname"] for one in tries if "exp_alerts" not in one} == names


def test_prometheus_reads_the_port_that_workers_serve_in_compose() -> None:
    """Given the compose file, then port, files and rule file of Prometheus and Grafana are those that exist."""
    services = load(ROOT / "docker-compose.yml")["services"]
    (scrape,) = load(FOLDER / "prometheus.yml")["scrape_configs"]
    (source,) = scrape["dns_sd_configs"]
    assert source["names"] == ["worker"]
    assert str(source["port"]) == services["worker"]["environment"]["FLEET_METRICS_PORT"]
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["observability"]
        binds = [volume.split(":")[0] for volume in services[name]["volumes"] if volume.startswith("./")]
        assert binds
        assert all((ROOT / bind).exists() for bind in binds)
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
