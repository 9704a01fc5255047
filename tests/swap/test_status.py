"""What serves is seen by whoever looks at the fleet."""

from click.testing import CliRunner

from producer.cli import main
from tests.integration.kit import eventually
from tests.swap.conftest import Marks


def test_fleet_status_names_versions_digests_and_shares(marks: Marks) -> None:
    """Given a canary, then `fleet status` names both versions with their shares."""
    marks.start()
    marks.swap(2, share=0.25)

    def told() -> bool:
        said = CliRunner().invoke(main, ["status", "--url", marks.url]).output
        return f"marks (@1 {marks.digests[1]} 0.75, @2 {marks.digests[2]} 0.25)" in said

    eventually(told, "both versions in the status")
