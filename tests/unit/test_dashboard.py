"""Grafana's dashboard is whole, as far as that can be told without Grafana: places, titles, units, data source, and
queries of metrics and labels that a worker shows. ``tests/prometheus`` asks a real Prometheus those queries.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric
from redis import Redis

from worker import cpu, embedded, metrics
from worker.settings import from_environ

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "observability" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "fleet.json").read_text())
PANELS = DASHBOARD["panels"]

#: Columns that Grafana lays panels on.
COLUMNS = 24

#: The units of Grafana that we use, as its list of them writes them.
UNITS = {"none", "short", "s", "bytes", "Bps", "percentunit"}

#: What Prometheus adds to a metric's name, by the metric's type.
ENDS = {"counter": ["_total"], "info": ["_info"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}

#: Labels that Prometheus adds when it reads a worker.
ADDED = {"instance", "job", "le"}

#: What a pool says of itself, in the words of :class:`worker.pool.DetectionPool`.
INFO = {
    "jobs": 1,
    "max-concurrency": 4,
    "models": {
        "m": {"digest": "d", "requests": 2, "in_flight": 1, "versions": [{"version": 1, "digest": "d", "share": 1.0}]}
    },
}

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


@pytest.fixture(scope="module")
def shown() -> dict[str, set[str]]:
    """Give the names that a worker's registry shows once it has served a model, each with its labels."""
    with embedded.server() as url, Redis.from_url(url) as redis:
        redis.hset("fleet:models", "m", json.dumps({"digest": "d", "input_size": [8, 8], "labels": ["l"]}))
        registry, jobs = metrics.make_registry("w", lambda: INFO, cpu.make_plan(from_environ({})), redis)
        jobs.begin("m")
        return {name: labels for family in registry.collect() for name, labels in names_of(family)}


def names_of(family: Metric) -> list[tuple[str, set[str]]]:
    """Give the names of a family's samples, and their labels."""
    labels = {label for sample in family.samples for label in sample.labels}
    return [(family.name + end, labels) for end in ENDS[family.type]]


def test_panels_lie_side_by_side_and_leave_no_hole() -> None:
    """Given all panels, then each has a place of its own on 24 columns, and no row has a gap."""
    taken: list[tuple[int, int]] = []
    for panel in PANELS:
        x, y, wide, high = (panel["gridPos"][name] for name in "xywh")
        assert min(wide, high) > 2
        taken += [(column, row) for column in range(x, x + wide) for row in range(y, y + high)]
    assert len(set(taken)) == len(taken)
    rows = 1 + max(row for _, row in taken)
    assert set(taken) == {(column, row) for column in range(COLUMNS) for row in range(rows)}
    assert len({panel["id"] for panel in PANELS}) == len({panel["title"] for panel in PANELS}) == len(PANELS)


@each_panel
def test_a_panel_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    """Given a panel, then it has a title, a unit that Grafana knows, and queries, each with a name of its own."""
    assert panel["title"].strip() == panel["title"] != ""
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    targets = panel["targets"]
    assert targets
    assert all(target["expr"] for target in targets)
    assert len({target["refId"] for target in targets}) == len(targets)
    if panel["type"] == "timeseries":
        assert len({target["legendFormat"] for target in targets} - {""}) == len(targets)


def test_all_of_it_asks_the_data_source_that_is_provisioned() -> None:
    """Given panels, queries, variables and annotations, then each names the one source that there is."""
    (source,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    wanted = {"type": source["type"], "uid": source["uid"]}
    parts = [*PANELS, *(target for panel in PANELS for target in panel["targets"])]
    parts += [*DASHBOARD["templating"]["list"], *DASHBOARD["annotations"]["list"]]
    assert [part for part in parts if part["datasource"] != wanted] == []


def test_compose_puts_the_dashboard_where_grafana_is_told_to_look() -> None:
    """Given the compose file, then the provider's folder and the home page are in what is mounted."""
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "fleet.yml").read_text())["providers"]
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounted = {inside: ROOT / here for here, inside, *_ in (volume.split(":") for volume in service["volumes"])}
    folder = provider["options"]["path"]
    home = Path(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.is_relative_to(folder)
    assert (mounted[folder] / home.relative_to(folder)).is_file()
    assert (mounted["/etc/grafana/provisioning"] / "dashboards" / "fleet.yml").is_file()


@each_panel
def test_a_panel_asks_for_metrics_and_labels_that_a_worker_shows(
    panel: dict[str, Any], shown: dict[str, set[str]]
) -> None:
    """Given the queries of a panel, then the worker's registry has each metric, and each label that is asked for."""
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]} | {"__rate_interval"}
    for target in panel["targets"]:
        query = target["expr"]
        names = re.findall(r"\b(?:fleet|process)_\w+", query)
        assert names or query == "vector(0)"
        assert set(names) <= set(shown)
        known = set.union(*(shown[name] for name in names)) | ADDED
        asked = set(re.findall(r"(\w+)=", query)) | set(
            re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)", query)))
        )
        assert asked <= known
        assert set(re.findall(r"\$(\w+)", query)) <= variables
        kept = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert all(kept <= set(re.findall(r"\w+", group)) for group in re.findall(r"by \(([^)]*)", query))
        assert kept <= known
