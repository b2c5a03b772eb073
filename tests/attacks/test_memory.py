"""Filling the memory of the workers with bodies that nobody has signed."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from support.broker_process import Broker, connected, converse, status_of
from support.servers import HANG, eventually

MEGABYTE = 1_000_000


def test_strangers_cannot_fill_the_memory_with_bodies(new_broker: Callable[..., Broker]):
    broker = new_broker(server={"body_memory": 20})
    before = memory(broker)
    with contextlib.ExitStack() as open_connections:
        for length in [10 * MEGABYTE] * 80 + [250_000] * 200:
            wire = open_connections.enter_context(connected(broker.endpoint, HANG))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length
                wire.sendall(head + b"x" * min(length - 1, 2 * MEGABYTE))
        # Each worker holds ten megabytes of strangers at most; the others were told to come later.
        assert memory(broker) - before < 80 * MEGABYTE
        refused = converse(broker.endpoint, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
        assert status_of(refused) == 413
        assert broker.sign_in("erin", "Reader").status == 200


def memory(broker: Broker) -> int:
    """Return the bytes that the workers have in memory, once they have read what was sent."""
    eventually(lambda: broker.sign_in("erin", "Reader").status == 200)
    return sum(_resident(pid) for pid in broker.workers())


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
