"""Every way a job can fail, split by whose fault it is.

Stage: shared by both ends; the worker raises these, the client raises the same ones again.
Neighbours: :mod:`producer.wire` names the formats they complain about.

A failed job stands in the result backend as Celery writes any exception: ``exc_type`` is the class's name and
``exc_message`` is ``[sentence, code]``. A program without this package sees ``exc.args == (sentence, code)``.
"""

from typing import ClassVar

__all__ = [
    "BY_CODE",
    "CallerError",
    "Cancelled",
    "DeadlineExceeded",
    "FleetError",
    "FleetFault",
    "ImageTooLarge",
    "InferenceFailed",
    "InternalError",
    "InvalidImage",
    "InvalidRequest",
    "JobEnded",
    "Overloaded",
    "PayloadMissing",
    "UnknownModel",
    "Unreachable",
    "UnsupportedVersion",
    "from_code",
]


class FleetError(Exception):
    """Something the fleet could not do."""

    #: The stable name on the wire; part of the public contract.
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str = "", code: str | None = None) -> None:
        """Carry ``message``; ``code`` is only there so that ``type(e)(*e.args)`` builds the same error again."""
        self.message = message or (type(self).__doc__ or "").partition("\n")[0]
        super().__init__(self.message, self.code)

    def __str__(self) -> str:
        return self.message

    def to_json(self) -> dict[str, str]:
        """Give ``{"code", "message"}``, the form of an error inside a batch and in ``fleet detect --json``."""
        return {"code": self.code, "message": self.message}


class CallerError(FleetError):
    """The request itself is at fault: sending it again gives the same error. Never retried."""

    code = "invalid_request"


class InvalidImage(CallerError):
    """The bytes are not a whole JPEG, PNG, WebP or BMP picture."""

    code = "invalid_image"


class ImageTooLarge(CallerError):
    """The picture has more bytes or pixels than the fleet accepts. Make it smaller and send it again."""

    code = "image_too_large"


class PayloadMissing(CallerError):
    """The image's bytes are no longer in Redis: already used, expired or never put there. Send the image again."""

    code = "payload_missing"


class UnknownModel(CallerError):
    """No worker of this fleet serves that model."""

    code = "unknown_model"


class UnsupportedVersion(CallerError):
    """The request was written for a newer version of the fleet. Upgrade the workers."""

    code = "unsupported_version"


class InvalidRequest(CallerError):
    """The request's arguments are not those of the task."""

    code = "invalid_request"


class JobEnded(FleetError):
    """The job was ended before its result, by a clock or by a person. Never retried."""


class DeadlineExceeded(JobEnded):
    """The job was not answered before its deadline."""

    code = "deadline_exceeded"


class Cancelled(JobEnded):
    """The job was cancelled."""

    code = "cancelled"


class FleetFault(FleetError):
    """The fleet is at fault; the same request may succeed later."""


class Overloaded(FleetFault):
    """The fleet's queue is full. Try again later, or add workers."""

    code = "overloaded"


class Unreachable(FleetFault):
    """Redis does not answer, so the fleet cannot be reached. Nothing is known about a job that was just being sent."""

    code = "unreachable"


class InferenceFailed(FleetFault):
    """OpenVINO could not run the network on this image, on every try."""

    code = "inference_failed"


class InternalError(FleetFault):
    """Something unforeseen went wrong in the fleet; the worker's log has the details."""

    code = "internal_error"


#: Error class by its code on the wire.
BY_CODE: dict[str, type[FleetError]] = {
    cls.code: cls
    for cls in (
        InvalidImage,
        ImageTooLarge,
        PayloadMissing,
        UnknownModel,
        UnsupportedVersion,
        InvalidRequest,
        DeadlineExceeded,
        Cancelled,
        Overloaded,
        Unreachable,
        InferenceFailed,
        InternalError,
    )
}


def from_code(code: object, message: object) -> FleetError:
    """Build the error that ``code`` names; an unknown code gives :class:`InternalError`."""
    cls = BY_CODE.get(code, InternalError) if isinstance(code, str) else InternalError
    return cls(message[:2000] if isinstance(message, str) else "")
