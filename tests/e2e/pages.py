"""What README and the docs tell people to type, read from the pages: blocks of code, and commands inside sentences.

Each page is one session: its blocks run top to bottom, in one shell, in a folder that looks like a clone with photos in
it. A comment above a block says what a reader has to know, and the tests as well: that it runs in a terminal of its
own, or that it needs Docker, a cluster or a camera.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from producer.cli import main as fleet
from tests.e2e.kit import ROOT
from worker.cli import main as fleet_worker
from worker.valkey import free_port

ALL = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: What stands around a session. Programs that serve go into the background, and the session goes on when they are
#: ready; pip installs beside the environment of the tests; the targets of make that run for long are looked up only.
SHELL = r"""
set -euo pipefail
end() { kill $1 || true; timeout 15 tail --pid=$1 -f /dev/null || kill -9 $1 || true; }
trap 'for job in $(jobs -p); do end $job; done' EXIT
until_() { for _ in $(seq 600); do if "$@" 2> /dev/null; then return; fi; sleep 0.1; done; cat "$log"; exit 1; }
serve() { log=$(mktemp served.XXXXXX); (exec "$@") >> "$log" 2>&1 & }
answers() { (exec 3<> "/dev/tcp/127.0.0.1/$1"); }
fleet() {
    case "${1:-} $*" in
    autoscale*--once*) command fleet "$@" ;;
    autoscale*) timeout --preserve-status --signal INT 15 fleet "$@" ;;
    *) command fleet "$@" ;;
    esac
}
fleet-worker() {
    if [ "${1:-}" = local ]; then serve fleet-worker "$@"; until_ grep -q "^ready redis" "$log"
    else command fleet-worker "$@"; fi
}
celery() {
    case "$*" in
    *flower*) serve celery "$@"; local all="$*" port; port="${all##*--port=}"; until_ answers "${port%% *}" ;;
    *) command celery "$@" ;;
    esac
}
uvicorn() { serve uvicorn "$@"; until_ answers "${@: -1}"; }
python() {
    case "$*" in
    *runserver*) serve python "$@"; local last="${@: -1}"; until_ answers "${last##*:}" ;;
    *) command python "$@" ;;
    esac
}
pip() { command pip "$@" -q --no-deps --no-build-isolation --target "$PYTHONPATH"; }
make() {
    case "$*" in
    demo*) command make -s -o .venv/.runtime "$@" ;;
    *) command make -n "$@" > /dev/null ;;
    esac
}
"""

#: Ports and URLs of the pages; each run without Docker has its own.
PORTS = ("6380", "8000", "8001", "5555")

#: Settings before a command.
SETTINGS = r"(?:[A-Z_]+=\S+ )*"

#: What a block needs more than this machine for.
OUTSIDE = rf"^{SETTINGS}(docker|kubectl|fleet autoscale(?!.*--dry-run)|fleet watch (?!film))\b"

#: A command inside a sentence: a program that is not ours, with something behind it, or ours with one of its own words.
INLINE = (
    rf"_FLEET_\w+=|{SETTINGS}(?:(?:\.venv/bin/)?"
    r"(?:make|celery|docker|kubectl|pip|promtool|uvicorn|python3?|sh|uv|apt|pip-audit) \S"
    r"|\.ci/run$|eval \S|(?P<ours>fleet|fleet-worker) (?P<word>\S+))"
)


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


def inline_commands(page: Path) -> Iterator[str]:
    """Give the commands that stand inside a page's sentences and tables."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        for part in token.children or ():
            found = re.match(INLINE, part.content) if part.type == "code_inline" else None
            if found and (not found["ours"] or _is_word_of(found["ours"], found["word"])):
                yield part.content


def _is_word_of(program: str, word: str) -> bool:
    """Tell a command from what only begins like one: ``fleet job`` is the name of a span."""
    return word in (fleet if program == "fleet" else fleet_worker).commands


def session(page: Path, url: str) -> str:
    """Write what a page tells people to type, and needs no more than this machine, as one script."""
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


def session_with_docker(page: Path) -> str:
    """Write what a page tells people to type where there is Docker, as one script."""
    return "\n".join([SHELL, *(block.text for block in blocks(page) if block.needs == "needs Docker")])


#: Pages with anything to type, and those with anything for Docker.
TYPED = [page for page in ALL if any(one.language in {"sh", "python"} and not one.needs for one in blocks(page))]
WITH_DOCKER = [page for page in ALL if any(block.needs == "needs Docker" for block in blocks(page))]
