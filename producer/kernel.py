"""Time limits of sockets that the system itself keeps: Python's own way asks before each call whether one is ready.

Stage: under :mod:`producer.lines` and :mod:`producer.hearing`. Each system call lets go of the GIL, which then has to
be won again. A limit that is met shows as ``BlockingIOError``. After each signal that comes to the waiting thread it
begins anew, so who waits again and again leaves signals to others (:func:`take_no_signals`).
"""

import _socket
import signal
import socket
import ssl
import struct
import sys

_SECONDS = struct.Struct("ll")


def wait_there(own: socket.socket | None, limit_s: float | None) -> bool:
    """Let the system keep a socket's time limit, for either direction; False where Python goes on doing it.

    It does where the system's limit has another form, for TLS, which asks again and again, and for sockets of another
    kind, such as gevent's.
    """
    is_plain = isinstance(own, _socket.socket) and not isinstance(own, ssl.SSLSocket)
    if own is None or not limit_s or not is_plain or sys.platform != "linux":
        return False
    try:
        limit_receiving(own, limit_s)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _packed(limit_s))
    except OSError:
        return False
    own.settimeout(None)
    return True


def limit_receiving(own: socket.socket, limit_s: float) -> None:
    """Let a socket of :func:`wait_there` wait ``limit_s`` at most, a microsecond at least, for something to read."""
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _packed(limit_s))


def take_no_signals() -> None:
    """Leave signals to the process's other threads, where the system has a choice. For the whole life of a thread."""
    if sys.platform != "win32":
        faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}  # its own doing
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)


def _packed(seconds: float) -> bytes:
    return _SECONDS.pack(*divmod(max(1, round(seconds * 1_000_000)), 1_000_000))  # 0 would be no limit at all
