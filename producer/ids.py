"""Job ids: who waits for the job, until when, and 122 bits that nobody can guess.

Stage: shared by every part of the client. An id is ``<12 hex client>-<11 hex deadline in ms>-<32 hex uuid4>``. The
first part lets one pattern subscription serve all of a client's jobs; the second lets any process that was handed an
id know how long waiting makes sense, with nothing stored. Workers take ids as they are.
"""

import re
import secrets
import uuid

from producer.errors import InvalidRequest

_OURS = re.compile(r"[0-9a-f]{12}-([0-9a-f]{11,12})-[0-9a-f]{32}\Z")
_ANY = re.compile(r"[A-Za-z0-9_.-]{1,96}\Z")


def new_client_id() -> str:
    """Make the part that all ids of one client share."""
    return secrets.token_hex(6)


def new_job_id(client_id: str, deadline_at: float) -> str:
    """Make an id for a job that ends at ``deadline_at``, seconds since 1970."""
    return f"{client_id}-{int(deadline_at * 1000):011x}-{uuid.uuid4().hex}"


def check_job_id(job_id: object) -> str:
    """Return ``job_id`` if it can be one; ids from other Celery programs are fine.

    Raises:
        InvalidRequest: it is not 1 to 96 letters, digits, ``_``, ``.`` or ``-``.
    """
    if not isinstance(job_id, str) or not _ANY.match(job_id):
        raise InvalidRequest("A job's id is 1 to 96 letters, digits, '_', '.' or '-'.")
    return job_id


def deadline_of(job_id: str) -> float | None:
    """Return the deadline inside ``job_id``, seconds since 1970; None when the id is not one of ours."""
    match = _OURS.match(job_id)
    return int(match[1], 16) / 1000 if match else None
