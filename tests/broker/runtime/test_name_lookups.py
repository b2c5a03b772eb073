"""Look-ups of names for accounts: bounded, with a deadline, and one account's dead name server is not the others'."""

import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import gevent
import pytest
from support.servers import HANG, eventually

from broker.runtime.fetch import FetchBusy, FetchError
from broker.runtime.name_lookups import MOST_OF_ONE, NameLookups

SOON = 0.01  # seconds that are over before a name server that says nothing answers
FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]


class NameServer:
    """Answers at once, but for hosts of the slow domain, whose look-ups hang until they are released."""

    def __init__(self):
        self.answers, self.asked = threading.Event(), 0

    def __call__(self, host, _port):
        self.asked += 1
        if host.endswith(".slow.example"):
            self.answers.wait(HANG)
        if host == "unknown.example":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return FOUND


@pytest.fixture
def server():
    made = NameServer()
    yield made
    made.answers.set()


def hang(lookups, account_id, number):
    with pytest.raises(FetchError, match="is not resolved in time"):
        lookups(f"{number}.slow.example", 443, account_id, SOON)


def test_a_name_is_looked_up_and_an_error_is_that_of_the_resolver(server):
    lookups = NameLookups(server)
    assert lookups("quick.example", 443, "1", HANG) == FOUND
    with pytest.raises(socket.gaierror):
        lookups("unknown.example", 443, "1", HANG)
    assert NameLookups()("127.0.0.1", 443, "", HANG)[0][4] == ("127.0.0.1", 443)


def test_an_account_whose_name_server_is_dead_waits_for_itself_alone(server):
    lookups = NameLookups(server)
    for number in range(MOST_OF_ONE):
        hang(lookups, "tenant", number)
    asked = server.asked
    with pytest.raises(FetchBusy):
        lookups("quick.example", 443, "tenant", HANG)
    assert server.asked == asked
    assert lookups("quick.example", 443, "other", HANG) == FOUND
    assert lookups("quick.example", 443, "", HANG) == FOUND
    server.answers.set()
    assert eventually(lambda: not_busy(lookups, "tenant")) == FOUND


def not_busy(lookups, account_id):
    try:
        return lookups("quick.example", 443, account_id, HANG)
    except FetchBusy:
        return None


def test_many_such_accounts_are_bounded_and_the_worker_s_own_names_are_found_all_the_same(server):
    lookups = NameLookups(server)
    for number in range(100):
        with pytest.raises(FetchError):
            lookups(f"{number}.slow.example", 443, str(number), SOON)
    assert server.asked <= 32
    with pytest.raises(FetchBusy):
        lookups("quick.example", 443, "another", HANG)
    assert lookups("quick.example", 443, "", HANG) == FOUND  # a name in the settings
    found = gevent.get_hub().resolver.getaddrinfo("localhost", 443, 0, socket.SOCK_STREAM)  # as directories are found
    assert found


def test_look_ups_of_several_threads_are_counted_together(server):
    lookups = NameLookups(server)
    with ThreadPoolExecutor(MOST_OF_ONE) as pool:
        list(pool.map(lambda number: hang(lookups, "tenant", number), range(MOST_OF_ONE)))
    with pytest.raises(FetchBusy):
        lookups("quick.example", 443, "tenant", HANG)


PATCHED = """
from gevent import monkey
monkey.patch_all()
import os, socket
from broker.runtime.fetch import FetchBusy, FetchError
from broker.runtime.name_lookups import MOST_OF_ONE, NameLookups

sleep = monkey.get_original("time", "sleep")

def look_up(host, port):
    if host != "quick.example":
        sleep(600)
    return monkey.get_original("socket", "getaddrinfo")("127.0.0.1", port)

lookups = NameLookups(look_up)
for number in range(20):
    try:
        lookups(f"{number}.example", 443, "tenant", 0.01)
    except FetchBusy:
        assert number >= MOST_OF_ONE
    except FetchError:
        assert number < MOST_OF_ONE
assert lookups("quick.example", 443, "other", 60)
assert socket.getaddrinfo("localhost", 443)  # in a thread of the hub, as of all else that a worker connects to
print("served", flush=True)
os._exit(0)  # without waiting for the threads
"""


def test_a_worker_serves_on_while_the_name_server_of_an_account_is_dead():
    """As workers run, with gevent in the place of threads."""
    done = subprocess.run([sys.executable, "-c", PATCHED], capture_output=True, text=True, timeout=HANG, check=False)
    assert done.stdout == "served\n", done.stderr
