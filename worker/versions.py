"""Which version of each model the whole fleet serves: a record in Redis that all workers agree on.

Stage: between whoever orders a change and the workers. The files of versions lie in each host's store; what is current
cannot lie there, for the hosts would have to agree, and the store of a container is often read-only. A worker reads the
record when it starts, and again every few seconds, so one that heard no command follows as well. Producers may not
write it (``deploy/redis/users.acl``).
"""

import json
import math
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

#: Hash: model -> JSON of a :class:`Wanted`. A model that nobody ever changed has none.
VERSIONS_KEY = "fleet:versions"

#: Key: model behind it -> who changes it now. One change at a time, fleet-wide.
LOCK_PREFIX = "fleet:versions:changing:"


@dataclass(frozen=True, slots=True)
class Version:
    """A version and the network it must be."""

    number: int
    digest: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What serves a model: a version, and perhaps a canary beside it for a share of the jobs."""

    current: Version
    canary: Version | None = None
    share: float = 0.0

    def to_json(self) -> str:
        """Give the record's text."""
        said: dict[str, Any] = {"version": self.current.number, "digest": self.current.digest}
        if self.canary is not None:
            said["canary"] = {"version": self.canary.number, "digest": self.canary.digest, "share": self.share}
        return json.dumps(said)

    @classmethod
    def parse(cls, text: bytes | str) -> "Wanted":
        """Read a record.

        Raises:
            ValueError: it is none.
        """
        try:
            said = json.loads(text)
            canary = said.get("canary")
            share = float(canary["share"]) if canary else 0.0
            if not (math.isfinite(share) and 0 <= share <= 1):
                raise ValueError(f"a share is 0 to 1, not {share}")
            return cls(_version(said), _version(canary) if canary else None, share)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no record of versions: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator wants.

    Attributes:
        model: name of the model.
        version: the version's number.
        share: part of the jobs for a canary, 0 to end it; None swaps: all jobs.
        id: by which the order is recognised in reports.
        prepare: only load and try it, so that the order that follows is quick and will not fail.
        other_labels: let it have other labels than the running version.
    """

    model: str
    version: int
    share: float | None = None
    id: str = ""
    prepare: bool = False
    other_labels: bool = False

    @property
    def label(self) -> str:
        """The version as an operator writes it."""
        return f"{self.model}@{self.version}"


def _version(said: Any) -> Version:
    return Version(int(said["version"]), str(said["digest"]))


def read(redis: Redis) -> dict[str, Wanted]:
    """Read the records of all models; one that cannot be read counts as none.

    Raises:
        redis.exceptions.RedisError: Redis cannot be reached.
    """
    found: dict[str, Wanted] = {}
    for name, text in cast("dict[bytes, bytes]", redis.hgetall(VERSIONS_KEY)).items():
        try:
            found[name.decode("utf-8", "replace")] = Wanted.parse(text)
        except ValueError:
            continue
    return found


def write(redis: Redis, model: str, wanted: Wanted) -> None:
    """Note what serves ``model`` from now on."""
    redis.hset(VERSIONS_KEY, model, wanted.to_json())


def restore(redis: Redis, model: str, wanted: Wanted) -> None:
    """Note it where there is no record, as when Redis has lost its data."""
    redis.hsetnx(VERSIONS_KEY, model, wanted.to_json())


def split(label: str) -> tuple[str, int]:
    """Split ``faces@2`` into name and number.

    Raises:
        ValueError: it is not of this form.
    """
    name, _, number = label.partition("@")
    if not name or not number.isdecimal() or not 1 <= int(number) <= 10**9:
        raise ValueError(f"A version is written NAME@NUMBER, such as faces@2, not {label[:80]!r}.")
    return name, int(number)
