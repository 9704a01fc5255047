"""Alert rules and the dashboard's queries, asked of a real Prometheus that reads a worker at work."""

import itertools
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import yaml

from producer import Client
from tests.e2e.kit import ROOT, answers, running
from tests.integration.kit import MODEL, Fleet, small_picture
from tests.waiting import eventually
from worker import embedded
from worker.valkey import free_port

OBSERVABILITY = ROOT / "deploy" / "observability"

DASHBOARD = json.loads((OBSERVABILITY / "grafana" / "dashboards" / "fleet.json").read_text())

#: What Grafana puts in the place of its variables, for a scrape a second.
VARIABLES = {"$model": ".*", "$__rate_interval": "5s"}

QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}-{number}")
    for panel in DASHBOARD["panels"]
    for number, target in enumerate(panel["targets"])
]


def promtool(*words: object) -> None:
    """Run promtool; fails with what it says."""
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_alert_when_they_should_and_only_then() -> None:
    """Given the tries of every alert, both ways, then promtool agrees with all of them."""
    promtool("check", "rules", OBSERVABILITY / "alerts.yml")
    promtool("check", "config", "--syntax-only", OBSERVABILITY / "prometheus.yml")
    promtool("test", "rules", OBSERVABILITY / "alerts.test.yml")


@pytest.fixture(scope="module")
def prometheus(store: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the URL of a Prometheus that has read, for some seconds, a worker with much to do."""
    folder, metrics, port = tmp_path_factory.mktemp("prometheus"), free_port(), free_port()
    config = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(OBSERVABILITY / "alerts.yml")]
    config["scrape_configs"] = [{"job_name": "fleet-worker", "static_configs": [{"targets": [f"127.0.0.1:{metrics}"]}]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    words = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command = ["prometheus", *words, f"--web.listen-address=127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}"
    with embedded.server() as redis:
        fleet = Fleet(redis, store, folder, small_picture(samples))
        try:
            fleet.start(metrics_port=metrics)
            with running(command, redis, lambda: answers(url), folder / "log", cwd=folder), busy(fleet):
                eventually(lambda: ask(url, "min_over_time(fleet_images_total[5s]) > 100"), "six scrapes", 60)
                eventually(lambda: ask(url, 'rate(fleet_images_total{code="invalid_image"}[5s]) > 0'), "both", 60)
                yield url
        finally:
            fleet.close()


class busy:  # noqa: N801 - reads as a statement
    """Keeps a fleet at work for the length of a block, with a bad image now and then."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        images = itertools.cycle([*[self._fleet.picture] * 20, b"no picture" * 100])
        with Client(self._fleet.url, model=MODEL) as client:
            for _ in client.map(itertools.takewhile(lambda _: not self._over.is_set(), images), window=32):
                pass


def ask(url: str, query: str) -> list[dict[str, Any]]:
    """Give what a query says now; fails when Prometheus does not understand it."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=30)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]["result"]
    return found


def filled(query: str) -> str:
    """Put in values for Grafana's variables."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query
    return query


@pytest.mark.parametrize("query", QUERIES)
def test_every_panel_of_the_dashboard_has_data(prometheus: str, query: str) -> None:
    """Given a worker at work, then each query of the dashboard gives figures, and none is nonsense."""
    found = ask(prometheus, filled(query))
    assert found
    assert all(re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", one["value"][1]) for one in found), found


def test_the_dashboards_choice_of_models_has_the_model(prometheus: str) -> None:
    """Given the variable that lists models, then Prometheus knows the label it asks for, and the worker's model."""
    (variable,) = DASHBOARD["templating"]["list"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
    assert {one["metric"][label] for one in ask(prometheus, metric)} == {MODEL}
    for annotation in DASHBOARD["annotations"]["list"]:
        ask(prometheus, filled(annotation["expr"]))


def test_prometheus_evaluates_every_rule_and_none_is_wrong_about_a_fleet_that_is_well(prometheus: str) -> None:
    """Given the rules in a Prometheus, then each is healthy; a fleet at work gives no alert but that of bad images."""
    said = httpx.get(f"{prometheus}/api/v1/rules", timeout=30).json()["data"]["groups"]
    rules = [rule for group in said for rule in group["rules"]]
    assert len(rules) == len(re.findall(r"alert:", (OBSERVABILITY / "alerts.yml").read_text()))
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    assert {rule["name"] for rule in rules if rule["state"] == "firing"} <= {"FleetBadImages"}
