"""The client side of the detection fleet: what an application installs and imports.

Importing this package loads no openvino, cv2 or numpy.
"""

import logging

from producer.aio import AsyncClient, AsyncJob
from producer.answers import Answer
from producer.client import Client
from producer.errors import (
    CallerError,
    Cancelled,
    DeadlineExceeded,
    FleetError,
    FleetFault,
    ImageTooLarge,
    InferenceFailed,
    InternalError,
    InvalidImage,
    InvalidRequest,
    JobEnded,
    Overloaded,
    PayloadMissing,
    UnknownModel,
    Unreachable,
    UnsupportedVersion,
)
from producer.job import Job
from producer.wire import Detection, Result, Tile

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncJob",
    "CallerError",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "Detection",
    "FleetError",
    "FleetFault",
    "ImageTooLarge",
    "InferenceFailed",
    "InternalError",
    "InvalidImage",
    "InvalidRequest",
    "Job",
    "JobEnded",
    "Overloaded",
    "PayloadMissing",
    "Result",
    "Tile",
    "UnknownModel",
    "Unreachable",
    "UnsupportedVersion",
]

# An application that configures no logging shall not find our warnings on its standard error.
logging.getLogger(__name__).addHandler(logging.NullHandler())
