"""The URL that names Redis, or the Sentinels that know where it is."""

import pytest

from producer.address import SentinelAddress


def test_a_sentinel_url_is_taken_apart() -> None:
    """Given Sentinels, a login and a group, then each part is found, and what is missing has its default."""
    address = SentinelAddress.parse("sentinel://me:p%40ss@one:1;two,three:3/2?master_name=fleet")
    assert address.sentinels == (("one", 1), ("two", 26379), ("three", 3))
    assert address.master == "fleet"
    assert address.login == {"db": 2, "username": "me", "password": "p@ss"}


def test_celery_gets_everything_for_each_sentinel() -> None:
    """Given a URL with a login, then Celery's has it with each Sentinel, as it was written."""
    url = "sentinel://:p%40ss@one:1;two/2?master_name=fleet"
    assert SentinelAddress.parse(url).celery_url(url) == "sentinel://:p%40ss@one:1/2;sentinel://:p%40ss@two:26379/2"


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://one:1/0",
        "sentinel:///0?master_name=fleet",
        "sentinel://one:x/0?master_name=fleet",
        "sentinel://one:1/x?master_name=fleet",
        "sentinel://one:70000?master_name=fleet",
        "sentinel://:secret@one:1/0?master_name=fleet&other=1",
    ],
)
def test_a_bad_sentinel_url_is_refused_without_its_password(url: str) -> None:
    """Given no group, no Sentinel or a bad part, then the error shows the form and not what was given."""
    with pytest.raises(ValueError, match="expected sentinel://host:port") as refused:
        SentinelAddress.parse(url)
    assert "secret" not in str(refused.value)
