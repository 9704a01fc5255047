"""Coverage-guided fuzzing: ``make fuzz``, or ``python -m tests.hostile.fuzz decode|message|result [SECONDS]``.

Needs atheris (Linux and macOS; not a dependency). What it finds is written to the current folder as ``crash-...``; put
it into ``tests/hostile/corpus`` when it is mended, and the suite keeps it from coming back. Inputs that reach new code
are kept in ``.fuzz/<target>`` from run to run.
"""

import json
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["producer", "worker", "kombu", "PIL"]):
    from kombu.transport.virtual.base import Channel, Message

    from producer.errors import FleetError
    from producer.results import read_meta
    from producer.wire import Detection, Image, Options, Result, parse_images
    from tests.hostile import files
    from tests.hostile.messages import Maker
    from worker import codecs, decode, envelopes, screen

LIMITS = decode.Limits(1_000_000, 1_000_000)
TASKS = ("fleet.detect", "fleet.detect_many")


def on_file(data: bytes) -> None:
    """Bytes are pixels or a typed error."""
    try:
        pixels = decode.decode(data, LIMITS)
    except FleetError:
        return
    assert pixels.size <= 3 * LIMITS.max_pixels


class _Channel(Channel):
    """A channel that decodes bodies and is connected to nothing."""

    def __init__(self) -> None:
        pass


def on_message(data: bytes) -> None:
    """An item of a queue is a message that Celery can bear, or refused."""
    try:
        envelope = envelopes.open_envelope(data, "detect.m")
    except envelopes.Unreadable:
        return
    message = Message(envelope, channel=_Channel())
    message.accept = {screen.JSON, screen.MSGPACK}
    if message.errors:
        return
    try:
        screen.check(message, TASKS)
        args, kwargs, _ = message.payload
        Options.parse(kwargs)
        for image in args:
            Image.parse(image)
            parse_images(image)
    except FleetError:
        return


def on_result(data: bytes) -> None:
    """A stored outcome is a result, a typed error, or not yet there."""
    read_meta(data)


def seeds(target: str) -> list[bytes]:
    """Make inputs to begin with."""
    corpus = [path.read_bytes() for path in (Path(__file__).parent / "corpus").iterdir()]
    if target == "decode":
        return [*files.small().values(), *files.claims().values()]
    if target == "result":
        found = Result("m", "d", 9, 9, (Detection("face", 0, 0.5, (0, 0, 1, 1), ((0, 0),)),)).to_json()
        failed = {"exc_type": "InvalidImage", "exc_message": ["A sentence.", "invalid_image"]}
        stored = {"SUCCESS": found, "FAILURE": failed, "REVOKED": failed, "STARTED": None}
        made = [json.dumps({"status": status, "result": result}).encode() for status, result in stored.items()]
        return [*made, json.dumps({"status": "SUCCESS", "result": [found, {"error": {"code": "x"}}]}).encode()]
    maker = Maker(1, "detect.m", {"data": "AAAA"})
    return [*corpus, *(case.item for case in [*maker.signatures(), *maker.bodies()] if len(case.item) < 4000)]


def main() -> None:
    """Fuzz one target for some time."""
    target = sys.argv[1]
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    folder = Path(".fuzz") / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (folder / f"seed-{number}").write_bytes(seed)
    codecs.install()
    test = {"decode": on_file, "message": on_message, "result": on_result}[target]
    options = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", str(folder)]
    atheris.Setup([sys.argv[0], *options], test)
    print(f"{target}: {seconds} s")
    atheris.Fuzz()


if __name__ == "__main__":
    main()
