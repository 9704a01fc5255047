"""What was measured when a model in 8-bit integers was made: a file beside it, and sentences.

Stage: between :mod:`worker.quantize`, which measures, and whoever asks about the model.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Name of the file in the model's folder.
FILE = "quantized.json"


@dataclass(frozen=True, slots=True)
class Report:
    """What was found out; it stands beside the new model.

    Attributes:
        source: name of the model in floats; source_digest: of its network.
        calibrated: pictures that NNCF looked at; compared: others that the networks were compared on.
        boxes: of the network in floats in those.
        map_50: mean average precision of the new boxes against those, at an IoU of 0.5; map_50_95: over 0.5 to 0.95.
        float_per_s: inferences a second, the median of the rounds; int8_per_s likewise.
        speed_up: the median of the rounds' ratios; half of them lie between low and high.
        device: where they ran; precision: what was asked for what stays in floats, or empty.
        nncf: its version.
    """

    source: str
    source_digest: str
    calibrated: int
    compared: int
    boxes: int
    map_50: float
    map_50_95: float
    float_per_s: float
    int8_per_s: float
    speed_up: float
    low: float
    high: float
    device: str
    precision: str
    nncf: str

    @property
    def drop(self) -> float:
        """How far mAP at an IoU of 0.5 is below that of the network in floats, which is 1."""
        return 1 - self.map_50

    def sentences(self) -> list[str]:
        """Say what was found out."""
        verdict = "faster" if self.low > 1 else "slower" if self.high < 1 else "neither faster nor slower"
        pictures = (
            f"calibrated on {self.calibrated} pictures, compared on {self.compared} others with {self.boxes} boxes of "
            f"{self.source}"
        )
        loss = (
            f"mAP {self.map_50:.4f} at IoU 0.5, a drop of {self.drop:.4f}; {self.map_50_95:.4f} at 0.5 to 0.95, a drop "
            f"of {1 - self.map_50_95:.4f}"
        )
        gain = (
            f"{self.int8_per_s:.1f} inferences/s, {self.source} {self.float_per_s:.1f}: {self.speed_up:.2f} times as "
            f"fast, half of the alternating rounds between {self.low:.2f} and {self.high:.2f}: {verdict} on "
            f"{self.device} here, floats as {self.precision or 'the hardware likes them'}"
        )
        return [pictures, loss, gain]


def write(report: Report, folder: Path) -> None:
    """Put the report beside the model in ``folder``."""
    (folder / FILE).write_text(json.dumps(dataclasses.asdict(report), indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> Report | None:
    """Return the report beside the model in ``folder``; None where there is none, or it is none of ours."""
    try:
        said: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        report = Report(**said)
        report.sentences()
    except (OSError, ValueError, TypeError):
        return None
    return report
