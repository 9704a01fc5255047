"""What README and the docs tell people to type, typed: every command and every line of Python that needs no Docker.

Each page is one session: its blocks run top to bottom, in one shell, in a folder that looks like a clone with photos in
it. A comment above a block says what a reader has to know, and the test as well: that it runs in a terminal of its own,
or that it needs Docker, a cluster or a camera.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest
import yaml
from markdown_it import MarkdownIt

from tests.conftest import cache
from tests.e2e.kit import ROOT
from tests.integration.producer.test_films import write_film
from worker.valkey import free_port

#: Pages that are sessions.
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "tutorial.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
]

#: What runs a page, and the file with all it said.
Session = tuple["subprocess.Popen[bytes]", Path]

ALL = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

#: What stands around a session. Programs that serve go into the background, and the session goes on when they are
#: ready; the targets of make that run for long are looked up only.
SHELL = r"""
set -euo pipefail
trap 'jobs -p | xargs -r kill || true; wait || true' EXIT
until_() { for _ in $(seq 600); do if "$@" 2> /dev/null; then return; fi; sleep 0.1; done; cat "$log"; exit 1; }
serve() { log=$(mktemp served.XXXXXX); (exec "$@") >> "$log" 2>&1 & }
answers() { (exec 3<> "/dev/tcp/127.0.0.1/$1"); }
fleet-worker() {
    if [ "${1:-}" = local ]; then serve fleet-worker "$@"; until_ grep -q "^ready redis" "$log"
    else command fleet-worker "$@"; fi
}
uvicorn() { serve uvicorn "$@"; until_ answers "${@: -1}"; }
python() {
    case "$*" in
    *runserver*) serve python "$@"; local last="${@: -1}"; until_ answers "${last##*:}" ;;
    *) command python "$@" ;;
    esac
}
make() {
    case "$*" in
    demo*) command make -s -o .venv/.runtime "$@" ;;
    *) command make -n "$@" > /dev/null ;;
    esac
}
"""

#: What a block needs more than this machine for.
OUTSIDE = r"^(docker|kubectl|celery |(FLEET_URL_FILE=\S+ )?fleet autoscale(?!.*--dry-run)|fleet watch (?!film))"

#: Ports and URLs of the pages; each run has its own.
PORTS = ("6380", "8000", "8001")


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    language: str
    title: str
    needs: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Give the blocks of a page, with what the comment above each says."""
    found, comment = [], ""
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type == "html_block":
            comment = token.content
            continue
        if token.type == "fence":
            language, _, rest = token.info.partition(" ")
            title = re.search(r'title="([^"]+)"', rest)
            needs = re.search(r"needs (Docker|a cluster|a camera)", comment)
            found.append(Block(language, title[1] if title else "", needs[0] if needs else "", token.content))
        comment = ""
    return found


#: Pages with anything to type.
TYPED = [page for page in PAGES if any(not block.needs for block in blocks(page))]


def session(page: Path, url: str) -> str:
    """Write a page's blocks as one script."""
    script = [SHELL]
    for number, block in enumerate(blocks(page)):
        if block.needs or block.language not in {"sh", "python"}:
            continue
        text = block.text.replace(".venv/bin/", "") if "PATH" not in block.text else block.text
        if block.language == "sh":
            script.append(text)
            continue
        name = block.title or f"block_{number}.py"
        preamble = "" if block.title else 'paths = ["photo.jpg", "holiday/a.jpg"]\n'
        body = text.replace("redis://127.0.0.1:6379/0", url)
        script.append(f"cat > {name} <<'END OF BLOCK'\n{preamble}{body}END OF BLOCK")
        if not block.title:
            script.append(f"python {name}")
    whole = "\n".join(script)
    for port in PORTS:
        whole = re.sub(rf"\b{port}\b", str(free_port()), whole)
    return whole


def clone(folder: Path, samples: Path, store: Path) -> None:
    """Make ``folder`` look like a clone, with photos, a film and a network of a user's."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock", "examples", "deploy"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "holiday").mkdir()
    photo = cv2.imread(str(samples / "grace_hopper.jpg"))
    for name in ("photo.jpg", "holiday/a.jpg", "holiday/b.jpg"):
        cv2.imwrite(str(folder / name), photo)
    write_film(folder / "film.mp4", 40)
    shutil.copy(store / "centerface" / "centerface.onnx", folder / "best.onnx")
    (folder / "labels.txt").write_text("car\n")
    shutil.copytree(store / "centerface", folder / "store" / "centerface")


@pytest.fixture(scope="module")
def sessions(
    faces: str, samples: Path, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Session]]:
    """Start the sessions of all pages: they wait more than they work, and together take the time of the longest."""
    started = {}
    for page in TYPED:
        folder = tmp_path_factory.mktemp(page.stem)
        clone(folder, samples, store)
        environ = {
            "PATH": f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "FLEET_URL": faces,
            "FLEET_MODEL_STORE": str(folder / "store"),
            "FLEET_CACHE_DIR": str(cache() / "compiled"),
            "LANG": "C.UTF-8",
        }
        with (folder / "said").open("wb") as said:
            process = subprocess.Popen(
                ["bash", "-c", session(page, faces)], cwd=folder, env=environ, stdout=said, stderr=said
            )
        started[page] = process, folder / "said"
    yield started
    for process, _ in started.values():
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.stem)
def test_what_a_page_says_can_be_typed(page: Path, sessions: dict[Path, Session]) -> None:
    """Given a page, when all it says is typed in its order, then every command succeeds."""
    process, said = sessions[page]
    assert process.wait(110) == 0, f"{blocks(page)}\n{said.read_text()[-5000:]}"


def test_every_block_that_is_not_run_names_its_reason() -> None:
    """Given all pages, then blocks with docker or kubectl say that they need it, and no others do."""
    for page in ALL:
        for block in blocks(page):
            if block.language == "sh":
                outside = re.search(OUTSIDE, block.text, re.MULTILINE)
                assert bool(block.needs) == bool(outside), f"{page}: {block.text}"


def test_commands_for_docker_and_clusters_name_what_is_there() -> None:
    """Given the commands that are not run, then the services, files and options in them exist."""
    services = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
    for page in ALL:
        for block in blocks(page):
            if not block.needs:
                continue
            assert set(re.findall(r"--scale (\w+)=", block.text)) <= services
            for path in re.findall(r"\bdeploy/[\w./-]+", block.text):
                assert (ROOT / path).exists() or path.endswith("secret.env"), f"{page}: {path}"


def test_settings_in_the_docs_are_settings() -> None:
    """Given all pages, then each FLEET_ variable in them is read by something of the project."""
    sources = [*(ROOT / "worker").glob("*.py"), *(ROOT / "producer").glob("*.py"), ROOT / "docker-compose.yml"]
    known = "".join(path.read_text() for path in [*sources, *(ROOT / "tests").rglob("conftest.py")])
    for page in ALL:
        for name in set(re.findall(r"\bFLEET_[A-Z_]+[A-Z]\b", page.read_text())):
            read = name in known or f'"{name.removeprefix("FLEET_").lower()}"' in known
            assert read or name.endswith("COMPLETE"), f"{page}: {name}"
