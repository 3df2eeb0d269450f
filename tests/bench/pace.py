"""Latency at a fixed rate: requests start when they are due, whatever became of those before.

An answer's time counts from when its request was due, so a gateway that stalls is charged for all
that had to wait (wrk and h2load count from when they came to send). What this client adds is the
same for every gateway, and is taken away with the direct row.
"""

import random
import select
import socket
import statistics
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from .process import Failed

RATE = 3_000
"""Requests a second."""

SLACK = 0.000_002
"""A due time this near is now."""


@dataclass
class Latency:
    """Microseconds from when a request was due to the end of its answer."""

    requests: int
    p50_us: float
    p99_us: float
    late: float
    """The part of requests that began more than a millisecond after they were due."""
    non_2xx: int


def measure(port, path, keys, seconds, connections, size):
    """Spreads requests evenly over time, and over connections and keys in turn."""
    # The kernel may wake a sleeper 50 us late unless it is told not to.
    Path("/proc/self/timerslack_ns").write_text("1")
    requests = [
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench/1.0\r\n"
        f"X-API-Key: {key.secret}\r\n\r\n".encode() for key in keys]
    random.Random(1).shuffle(requests)
    pool = Pool(port, connections, size)
    try:
        return pool.run(requests, seconds)
    finally:
        pool.close()


class Pool:
    """Connections, each with at most one request under way."""

    def __init__(self, port, connections, size):
        self.size = size
        self.poll = select.epoll()
        self.sockets = {}
        for _ in range(connections):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            self.sockets[connection.fileno()] = connection
            self.poll.register(connection, select.EPOLLIN)
        self.idle = deque(self.sockets.values())

    def close(self):
        for connection in self.sockets.values():
            connection.close()
        self.poll.close()

    def run(self, requests, seconds):
        clock = time.monotonic
        total = int(RATE * seconds)
        begin = clock() + 0.1
        due_of, head_of, times = {}, {}, []
        sent = late = bad = 0
        while len(times) < total:
            now = clock()
            while sent < total and self.idle and begin + sent / RATE <= now + SLACK:
                connection, due = self.idle.popleft(), begin + sent / RATE
                connection.send(requests[sent % len(requests)])
                due_of[connection.fileno()] = due
                late += now - due > 0.001
                sent += 1
            if now > begin + seconds + 30:
                raise Failed(f"{total - len(times)} of {total} requests were not answered")
            for number in self.wait(begin + sent / RATE if sent < total and self.idle else None):
                connection = self.sockets[number]
                answer = head_of.pop(number, b"") + connection.recv(65536)
                if self.is_whole(answer):
                    times.append(clock() - due_of.pop(number))
                    bad += not answer.startswith(b"HTTP/1.1 2")
                    self.idle.append(connection)
                elif answer:
                    head_of[number] = answer
                else:
                    raise Failed("a connection was closed")
        cuts = statistics.quantiles(times, n=100)
        return Latency(total, cuts[49] * 1e6, cuts[98] * 1e6, late / total, bad)

    def is_whole(self, answer):
        head = answer.find(b"\r\n\r\n")
        # An answer that is no 2xx has a body of its own, and ends the run as bad.
        return head >= 0 and (
            len(answer) >= head + 4 + self.size or not answer.startswith(b"HTTP/1.1 2"))

    def wait(self, until):
        """Numbers of the sockets that can be read, at the latest when the next request is due."""
        # epoll counts in milliseconds; select waits to the microsecond, also for an epoll.
        left = None if until is None else max(0, until - time.monotonic())
        ready, _, _ = select.select([self.poll], [], [], 1 if left is None else left)
        return [number for number, _ in self.poll.poll(0)] if ready else []
