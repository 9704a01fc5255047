"""A minute of chaos on every run of the suite; ``make soak`` is the long form."""

from pathlib import Path

import pytest

from tests.soak.run import Plan, run


@pytest.mark.timeout(400)
def test_a_minute_of_chaos_loses_nothing_and_confuses_nothing(store: Path, samples: Path, tmp_path: Path) -> None:
    """Given kills, restarts, pauses, cuts and changes of scale, then every image accepted has its one right answer."""
    plan = Plan(images=800, seed=11, every_s=3.0, fatal=0.002)

    verdict, harm = run(plan, store, samples, tmp_path)

    assert verdict.broken == [], "\n".join([verdict.table(), *harm])
