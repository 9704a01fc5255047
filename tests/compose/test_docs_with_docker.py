"""What README and the docs tell people to type where there is Docker, typed: against the real engine."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kit import ROOT
from tests.e2e.packages import tracked
from tests.e2e.pages import WITH_DOCKER, session_with_docker

#: A project of its own: the volumes of somebody's stack are not touched.
PROJECT = "fleet-docs-test"

#: Building the image takes minutes the first time.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Iterator[Path]:
    """Give a folder with all that git knows, some photos, and a stack that is built; take the stack away after it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "holiday").mkdir()
    for name in ("photo.jpg", *(f"holiday/{number}.jpg" for number in range(40))):
        shutil.copy(samples / "grace_hopper.jpg", folder / name)
    typed(folder, "docker compose build --quiet")
    yield folder
    typed(folder, "docker compose down --volumes --timeout 60")


@pytest.fixture(autouse=True)
def stack(clone: Path) -> Iterator[None]:
    """Have a stack for the page that begins with one, and none for the next page."""
    typed(clone, "docker compose up -d --wait")
    yield
    typed(clone, "docker compose down --volumes --timeout 60")


def typed(folder: Path, script: str) -> str:
    """Type a script in the clone, and return all that was said; fails when a command does."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FLEET_")},
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
        "COMPOSE_PROJECT_NAME": PROJECT,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


@pytest.mark.parametrize("page", WITH_DOCKER, ids=lambda page: page.stem)
def test_what_a_page_says_of_docker_can_be_typed(page: Path, clone: Path, tmp_path: Path) -> None:
    """Given a stack, when all that a page says of Docker is typed in its order, then every command succeeds."""
    script = session_with_docker(page).replace("/etc/fleet", str(tmp_path))
    typed(clone, script)


def test_three_workers_answer_and_flower_lets_in_who_has_the_password(clone: Path) -> None:
    """Given README's stack, then three workers share the photos, and Flower asks who is there."""
    typed(clone, "docker compose up -d --wait --scale worker=3")
    url = "FLEET_URL_FILE=deploy/redis/development/producer.url"
    said = typed(clone, f"{url} fleet detect holiday/ --json -")
    assert len(set(re.findall(r'"worker": ?"(\S+)"', said))) == 3
    told = "curl --silent --output /dev/null --write-out %{http_code} "
    assert typed(clone, told + "http://127.0.0.1:5555/tasks") == "401"
    assert typed(clone, told + "--user fleet:fleet http://127.0.0.1:5555/tasks") == "200"
