"""Swaps many times in a process of its own; prints what the process holds after the first swaps and at the end, in MiB.

Each network has 24 MiB of weights, so one that stayed behind would show.
"""

import gc
import sys
from pathlib import Path

import openvino as ov

from producer.wire import Options
from tests.swap.versions import LABELS, NAME, heavy, picture
from tests.waiting import eventually
from worker import network
from worker.cpu import Plan
from worker.detector import Detector
from worker.memory import give_back_large_blocks
from worker.model_toml import ModelSpec
from worker.outcome import Request
from worker.settings import Settings


def held_mib() -> float:
    """Tell the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main(folder: Path, swaps: int) -> None:
    """Swap ``swaps`` times, with a job in each version."""
    give_back_large_blocks()
    spec = ModelSpec(NAME, "net.xml", "yolov10", (128, 128), LABELS, resize="stretch")
    settings = Settings(precision="f32")

    def load(number: int) -> network.Network:
        path = folder / f"net{number % 2}.xml"
        if not path.exists():
            ov.save_model(heavy(number % 2), path, compress_to_fp16=False)
        return network.load(spec, path, settings, 2)

    detector = Detector([load(0)], settings, Plan(2, 2, 8, ()))
    lineup = detector.lineups[NAME]
    marks = []
    for number in range(1, swaps + 1):
        detecting = detector.start(Request([{"data": picture(9)}], Options()))
        lineup.set(detector.serve(load(number)))
        (outcome,) = detecting.result(60)
        assert outcome.error is None, outcome.error
        del detecting, outcome
        eventually(lambda: not lineup.leaving(), "the end of the version before")
        gc.collect()
        marks.append(held_mib())
    detector.close()
    print(marks[2], marks[-1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
