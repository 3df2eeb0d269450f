"""Connections that are open and quiet, and what a gateway keeps in memory for each."""

import contextlib
import resource
import socket
import time

from . import work
from .process import Failed

QUIET = 5
"""Seconds after the last request until memory is read: a gateway may take its time to tidy up."""


@contextlib.contextmanager
def connections(gateway, count):
    """Opens connections, makes one request on each, and leaves them open."""
    allow_files(count + 1000)
    keys = gateway.setup.keys
    with contextlib.ExitStack() as opened:
        for number in range(count):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
            key = keys[number % len(keys)]
            connection.sendall(
                f"GET {work.PREFIX}{work.SMALL} HTTP/1.1\r\nHost: idle\r\nUser-Agent: bench/1.0\r\n"
                f"X-API-Key: {key.secret}\r\n\r\n".encode())
            read_answer(connection)
        time.sleep(QUIET)
        yield


def read_answer(connection):
    answer = b""
    while (head := answer.find(b"\r\n\r\n")) < 0 or len(answer) < head + 4 + work.SMALL_SIZE:
        part = connection.recv(65536)
        if not part:
            raise ConnectionError(f"closed after {answer!r}")
        answer += part


def allow_files(count):
    """Lets this program, and what it starts from now on, have so many files open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < count:
        raise Failed(f"{count} open files are needed, and {most} allowed: raise ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
