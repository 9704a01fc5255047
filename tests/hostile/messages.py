"""Hostile messages: the raw items of a Redis list, made from a seed.

Each is a good task message with something wrong in it. Those that name a job by an id of the contract must be
answered; the others must be gone without a trace.
"""

import base64
import bz2
import copy
import json
import lzma
import random
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from tests.hostile.nasty import CELERY_TASKS, FOREIGN_HEADERS, HEADERS, NASTY, SIGNATURES

#: An answer that is a result or any typed error.
ANY = "any"


@dataclass(frozen=True)
class Case:
    """One hostile message.

    Attributes:
        name: what is wrong with it.
        item: what is pushed to the queue.
        job_id: whom to answer, or None where nobody can be.
        code: the error's code, :data:`ANY` where a result is as good.
    """

    name: str
    item: bytes
    job_id: str | None
    code: str = ANY


class Maker:
    """Makes messages for one queue; every job id is new, and follows from the seed."""

    def __init__(self, seed: int, queue: str, image: dict[str, str]) -> None:
        self.chance = random.Random(seed)
        self._queue = queue
        self._image = image

    def job_id(self) -> str:
        """Make an id that the contract allows."""
        return str(uuid.UUID(int=self.chance.getrandbits(128)))

    def good(self, job_id: str, *, task: str = "fleet.detect") -> dict[str, Any]:
        """Make a message that would be answered with a result; its body is not yet encoded."""
        headers = {
            "lang": "py",
            "task": task,
            "id": job_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": job_id,
            "parent_id": None,
            "argsrepr": "()",
            "kwargsrepr": "{}",
            "origin": "gen1@host",
            "ignore_result": False,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        }
        properties = {
            "correlation_id": job_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": self._queue, "routing_key": self._queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": self.job_id(),
        }
        embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        return {
            "body": [[self._image], {}, embed],
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }

    def case(self, name: str, job_id: str | None, message: Any, code: str = ANY) -> Case:
        """Make a case of a message whose body is still a value."""
        if isinstance(message, dict) and not isinstance(message.get("body"), str | None):
            message = message | {"body": base64.b64encode(json.dumps(message["body"]).encode()).decode()}
        return Case(name, json.dumps(message).encode(), job_id, code)

    # ------------------------------------------------------------------------------------------------ the kinds

    def headers(self) -> Iterator[Case]:
        """Every header with every nasty value, and left out."""
        for header in HEADERS:
            for kind, value in NASTY.items():
                job_id = self.job_id()
                message = self.good(job_id)
                message["headers"][header] = value
                yield self.case(f"header_{header}_{kind}", self._still_known(message, job_id), message)
            job_id = self.job_id()
            message = self.good(job_id)
            message["headers"].pop(header, None)
            yield self.case(f"header_{header}_missing", self._still_known(message, job_id), message)
        for header in FOREIGN_HEADERS:
            for value in ("boom", {"a": 1}):
                job_id = self.job_id()
                message = self.good(job_id)
                message["headers"][header] = value
                yield self.case(f"foreign_header_{header}", job_id, message, "invalid_request")

    @staticmethod
    def _still_known(message: dict[str, Any], job_id: str) -> str | None:
        said = message["headers"].get("id")
        if said == job_id:
            # an ignored result is not stored
            return None if message["headers"].get("ignore_result") is True else job_id
        return said if isinstance(said, str) and said in ("x", "A") else None

    def properties(self) -> Iterator[Case]:
        """Every property with every nasty value, and left out."""
        for name in self.good("")["properties"]:
            for kind, value in NASTY.items():
                job_id = self.job_id()
                message = self.good(job_id)
                message["properties"][name] = value
                yield self.case(f"property_{name}_{kind}", job_id, message)
            job_id = self.job_id()
            message = self.good(job_id)
            del message["properties"][name]
            yield self.case(f"property_{name}_missing", job_id, message)

    def envelopes(self) -> Iterator[Case]:
        """Whole messages that are something else."""
        for name in ("body", "headers", "properties", "content-type", "content-encoding"):
            for kind, value in NASTY.items():
                job_id = self.job_id()
                message = self.good(job_id)
                message[name] = value
                yield self.case(f"envelope_{name}_{kind}", None if name == "headers" else job_id, message)
            job_id = self.job_id()
            message = self.good(job_id)
            del message[name]
            yield self.case(f"envelope_{name}_missing", None if name == "headers" else job_id, message)
        for kind, value in NASTY.items():
            yield self.case(f"item_{kind}", None, value)
        for kind in (
            "application/x-python-serialize",
            "application/x-yaml",
            "application/data",
            "text/plain",
            "pickle",
        ):
            job_id = self.job_id()
            message = self.good(job_id) | {"content-type": kind, "body": base64.b64encode(b"cos\nsystem\n.").decode()}
            yield self.case(f"content_{kind}", job_id, message, "invalid_request")

    def bodies(self) -> Iterator[Case]:
        """Bodies that are not ``[args, kwargs, embed]``, and arguments that are not those of the task."""
        image = self._image
        for kind, value in NASTY.items():
            for place, body in {
                "body": value,
                "args": [value, {}, {}],
                "arg": [[value], {}, {}],
                "data": [[{"data": value}], {}, {}],
                "ref": [[{"ref": value}], {}, {}],
                "kwargs": [[image], value, {}],
                "embed": [[image], {}, value],
                "option": [[image], {"min_score": value}, {}],
                "most": [[image], {"max_detections": value}, {}],
                "tile": [[image], {"tile": value}, {}],
                "tile_size": [[image], {"tile": {"size": value}}, {}],
                "tile_overlap": [[image], {"tile": {"overlap": value}}, {}],
                "model": [[image], {"model": value}, {}],
                "version": [[image], {"v": value}, {}],
                "callbacks": [[image], {}, {"callbacks": value}],
                "chord": [[image], {}, {"chord": value}],
                "unknown_embed": [[image], {}, {"id": value}],
            }.items():
                job_id = self.job_id()
                yield self.case(f"body_{place}_{kind}", job_id, self.good(job_id) | {"body": body})
            job_id = self.job_id()
            many = self.good(job_id, task="fleet.detect_many") | {"body": [[[value, image]], {}, {}]}
            yield self.case(f"batch_item_{kind}", job_id, many)
        wrong = {"no_args": [[], {}, {}], "three": [[image] * 3, {}, {}], "two_parts": [[image], {}]}
        for name, body in (wrong | {"self": [[image], {"self": 1}, {}]}).items():
            job_id = self.job_id()
            yield self.case(f"body_{name}", job_id, self.good(job_id) | {"body": body}, "invalid_request")

    def signatures(self) -> Iterator[Case]:
        """Links, chains and chords that point at nonsense."""
        for kind, one in SIGNATURES.items():
            for embed in ({"callbacks": [one]}, {"errbacks": [one]}, {"chain": [one]}, {"chord": one}):
                job_id = self.job_id()
                message = self.good(job_id) | {"body": [[self._image], {}, embed]}
                yield self.case(f"signature_{next(iter(embed))}_{kind}", job_id, message, "invalid_request")

    def celery_tasks(self) -> Iterator[Case]:
        """Celery's own tasks with arguments that would send to keys, in pickle, without end, or not at all."""
        for task, calls in CELERY_TASKS.items():
            for number, (args, kwargs) in enumerate(calls):
                job_id = self.job_id()
                message = self.good(job_id, task=task) | {"body": [args, kwargs, {}]}
                yield self.case(f"{task}_{number}", job_id, message, "invalid_request")

    def bombs(self) -> Iterator[Case]:
        """A few bytes that become many, and messages of another protocol."""
        zeros = b"[[], {}, {" + b" " * 40_000_000 + b"}]"
        for name, data in {
            "gzip": zlib.compress(zeros),
            "bzip2": bz2.compress(zeros),
            "lzma": lzma.compress(zeros),
        }.items():
            for form in (name, "nonsense", "application/zstd"):
                job_id = self.job_id()
                message = self.good(job_id) | {"body": base64.b64encode(data).decode()}
                message["headers"]["compression"] = form
                yield self.case(f"bomb_{name}_{form}", job_id, message, "invalid_request")
        packs = {
            "lists": b"\x93\xdd\x00\x0f\x42\x40" + b"\x90" * 1_000_000 + b"\x80\x80",
            "deep": b"\x91" * 100_000,
            "claims": b"\xdd\x7f\xff\xff\xff" * 100,
            "extension": msgpack.packb([[msgpack.ExtType(5, b"x")], {}, {}]),
            "keys": msgpack.packb([[self._image], {5: 6}, {}]),
            "cut": msgpack.packb([[self._image], {}, {}])[:-3],
            "bytes": msgpack.packb(b"x"),
        }
        for name, data in packs.items():
            job_id = self.job_id()
            message = self.good(job_id) | {"body": base64.b64encode(data).decode()}
            message |= {"content-type": "application/x-msgpack", "content-encoding": "binary"}
            yield self.case(f"msgpack_{name}", job_id, message, "invalid_request")
        for name, body in {
            "deep": "[" * 100_000,
            "wide": "[" + "[]," * 300_000 + "[]]",
            "digits": "[[" + "9" * 5000 + "],{},{}]",
            "not_utf8": "\udcff",
            "cut": "[[",
        }.items():
            job_id = self.job_id()
            data = base64.b64encode(body.encode("utf-8", "surrogateescape")).decode()
            yield self.case(f"json_{name}", job_id, self.good(job_id) | {"body": data}, "invalid_request")
        first = {"task": "fleet.detect", "id": self.job_id(), "args": [self._image], "kwargs": {}, "retries": 0}
        yield self.case("protocol_1", None, self.good("x") | {"headers": {}, "body": first})
        job_id = self.job_id()
        large = self.good(job_id) | {"body": "A" * 17_000_000}
        yield self.case("too_large", job_id, large, "invalid_request")
        job_id = self.job_id()
        many = self.good(job_id) | {"rubbish": [[]] * 250_000}
        yield self.case("too_many_values_after_the_headers", None, many)

    def raw(self, number: int) -> Iterator[Case]:
        """Bytes that are no message, and good messages with a few bytes changed."""
        for name, item in {
            "empty": b"",
            "text": b"hello",
            "not_utf8": b"\xff\xfe\x00",
            "cut": b'{"body": ',
            "deep": b"[" * 100_000,
            "deep_objects": b'{"a":' * 100_000,
            "number": b"1" * 10_000,
            "nan": b"NaN",
            "pickle": b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
            "nul": b"\x00" * 1000,
        }.items():
            yield Case(f"raw_{name}", item, None)
        for count in range(number):
            item = bytearray(self.case("", None, self.good(self.job_id())).item)
            for _ in range(self.chance.randint(1, 6)):
                at = self.chance.randrange(len(item))
                item[at : at + self.chance.randrange(3)] = self.chance.randbytes(self.chance.randrange(4))
            yield Case(f"changed_{count}", bytes(item), None)

    def all(self, number: int) -> list[Case]:
        """Make ``number`` cases: some of each kind, always those that were made by hand."""
        by_hand = [*self.signatures(), *self.celery_tasks(), *self.bombs()]
        tables = [*self.headers(), *self.properties(), *self.envelopes(), *self.bodies()]
        few = [*by_hand, *self.raw(max(20, number // 10))]
        chosen = few + self.chance.sample(tables, min(len(tables), number - len(few)))
        self.chance.shuffle(chosen)
        return copy.copy(chosen)
