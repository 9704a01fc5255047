"""The Kubernetes manifests: valid by Kubernetes' own schemas, and right where a schema says nothing."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from producer.wire import JOBS_KEY, queue_of
from worker import settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"

#: Oldest and newest Kubernetes that the manifests are written for.
VERSIONS = ("1.29", "1.37")

KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())

#: All objects of all files, by kind and name.
OBJECTS: dict[tuple[str, str], dict[str, Any]] = {
    (found["kind"], found["metadata"]["name"]): found
    for name in KUSTOMIZATION["resources"]
    for found in yaml.safe_load_all((FOLDER / name).read_text())
}

WORKER = OBJECTS["Deployment", "fleet-worker"]["spec"]["template"]["spec"]
CONTAINER = WORKER["containers"][0]


def drain_s() -> float:
    """Give FLEET_DRAIN_S as the manifests set it."""
    (line,) = [line for line in KUSTOMIZATION["configMapGenerator"][0]["literals"] if line.startswith("FLEET_DRAIN_S")]
    return float(line.partition("=")[2])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("key", [key for key, found in OBJECTS.items() if not found["apiVersion"].startswith("keda")])
def test_every_object_is_valid(key: tuple[str, str], version: str) -> None:
    """Given an object of Kubernetes' own, then its strict schema accepts it: no unknown field, no wrong type."""
    kubernetes_validate.validate(OBJECTS[key], version, strict=True)


def test_kustomize_finds_every_file_and_every_name() -> None:
    """Given the folder, then each file is used, and what objects refer to is made here."""
    used = {*KUSTOMIZATION["resources"], *KUSTOMIZATION["configurations"], "kustomization.yaml", "secret.env.example"}
    assert {path.name for path in FOLDER.iterdir()} - {"secret.env"} == used
    made = {
        generator["name"] for kind in ("configMapGenerator", "secretGenerator") for generator in KUSTOMIZATION[kind]
    }
    text = "".join((FOLDER / name).read_text() for name in KUSTOMIZATION["resources"])
    assert set(re.findall(r"(?:secretKeyRef|configMapRef): \{name: ([a-z-]+)", text)) <= made
    assert "REDIS_PASSWORD=" in (FOLDER / "secret.env.example").read_text()
    assert "deploy/kubernetes/secret.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_workers_settings_are_settings() -> None:
    """Given all FLEET_* variables of the worker, then the worker reads them without complaint."""
    variables = dict(line.split("=", 1) for line in KUSTOMIZATION["configMapGenerator"][0]["literals"])
    variables |= {one["name"]: one["value"] for one in CONTAINER["env"] if one["name"].startswith("FLEET_")}
    chosen = settings.from_environ(variables)
    assert chosen.url == "redis://:$(REDIS_PASSWORD)@fleet-redis:6379/0"  # Kubernetes fills the password in
    names = [one["name"] for one in CONTAINER["env"]]
    assert names.index("REDIS_PASSWORD") < names.index("FLEET_URL")


def test_a_worker_has_the_time_to_drain() -> None:
    """Given the time a worker takes to drain, then preStop waits longer, and Kubernetes kills later still."""
    hook = CONTAINER["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert hook.startswith("kill -TERM 1; sleep ")
    assert drain_s() < float(hook.split()[-1]) < WORKER["terminationGracePeriodSeconds"] - 10


def test_probes_look_at_the_health_file() -> None:
    """Given the probes, then they read the file that the worker touches, as `fleet-worker health` does."""
    path = str(settings.Settings().health_file)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert path in CONTAINER[probe]["exec"]["command"][-1]
    # A worker that is merely busy is not restarted: two minutes to load, half a minute of silence.
    startup, liveness = CONTAINER["startupProbe"], CONTAINER["livenessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 30


def test_every_container_is_limited_and_has_no_rights() -> None:
    """Given all pods, then each runs as a user without rights on a read-only disk, within limits, without a token."""
    for kind, name in (("Deployment", "fleet-worker"), ("StatefulSet", "fleet-redis")):
        pod = OBJECTS[kind, name]["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert "memory" in container["resources"]["limits"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
    assert CONTAINER["resources"]["limits"]["cpu"] == CONTAINER["resources"]["requests"]["cpu"]


def test_selectors_meet_the_pods_they_mean() -> None:
    """Given everything that selects pods, then a template has those labels."""
    labels = [
        found["spec"]["template"]["metadata"]["labels"]
        for found in OBJECTS.values()
        if "template" in found.get("spec", {})
    ]
    for (kind, name), found in OBJECTS.items():
        spec = found.get("spec", {})
        wanted = {
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"].get("matchLabels", {}),
        }.get(kind)
        if wanted is not None:
            assert any(wanted(spec).items() <= pod.items() for pod in labels), name


def test_workers_scale_from_nothing_with_the_jobs_that_are_not_answered() -> None:
    """Given KEDA's object, then it alone rules the Deployment, from 0, by keys that the fleet keeps."""
    scaled = OBJECTS["ScaledObject", "fleet-worker"]["spec"]
    assert scaled["scaleTargetRef"] == {"name": "fleet-worker"}
    assert "replicas" not in OBJECTS["Deployment", "fleet-worker"]["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (0, 10)
    assert {one["metadata"]["listName"] for one in scaled["triggers"]} == {JOBS_KEY, queue_of("centerface")}
    service = OBJECTS["Service", "fleet-redis"]
    address = f"{service['metadata']['name']}.{KUSTOMIZATION['namespace']}.svc:{service['spec']['ports'][0]['port']}"
    for one in scaled["triggers"]:
        assert one["type"] == "redis"
        assert one["metadata"]["address"] == address
        assert all(isinstance(value, str) for value in one["metadata"].values())
        assert ("TriggerAuthentication", one["authenticationRef"]["name"]) in OBJECTS


def test_the_network_lets_workers_reach_redis_and_nothing_more() -> None:
    """Given the policies, then all is forbidden but the workers' way to Redis and to the names' server."""
    nothing = OBJECTS["NetworkPolicy", "nothing"]["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    worker = OBJECTS["NetworkPolicy", "fleet-worker"]["spec"]
    ports = [port["port"] for rule in worker["egress"] for port in rule["ports"]]
    assert ports == [6379, 53, 53]
    assert all("to" in rule for rule in worker["egress"])
    assert all("from" in rule for rule in OBJECTS["NetworkPolicy", "fleet-redis"]["spec"]["ingress"])
