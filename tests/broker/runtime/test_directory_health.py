"""Whether directories answer: asked together, told in a word, and never waited for too long."""

import threading
import time

import pytest

from broker.runtime.directory_health import Health, State, health
from sts.identity import ProviderUnavailable


class Directory:
    """A directory whose check does what a test says."""

    def __init__(self, check):
        self.check = check


def raising(error):
    def check():
        raise error

    return Directory(check)


def still():
    return 0.0


@pytest.mark.parametrize(
    ("directory", "state", "error"),
    [
        (Directory(lambda: None), State.GOOD, ""),
        (raising(ProviderUnavailable("ldap://x: refused")), State.AWAY, "ProviderUnavailable"),
        (raising(ProviderUnavailable("certificate", security=True)), State.UNTRUSTED, "ProviderUnavailable"),
        (raising(OSError("secret of the service account")), State.BROKEN, "OSError"),
    ],
)
def test_a_state_is_a_word_and_the_class_of_the_error(directory, state, error):
    assert health({"corp": directory}, still) == (Health("corp", state, error, 0),)


def test_no_directory_has_no_state():
    assert health({}, still) == ()


def test_directories_are_asked_at_the_same_time():
    meeting = threading.Barrier(3, timeout=10)
    found = health({name: Directory(meeting.wait) for name in "cab"}, still)
    assert [(one.name, one.state) for one in found] == [("a", State.GOOD), ("b", State.GOOD), ("c", State.GOOD)]


def test_a_directory_that_takes_too_long_is_not_waited_for():
    answer = threading.Event()
    try:
        slow, quick = health({"slow": Directory(answer.wait), "zip": Directory(lambda: None)}, still, at_most=0.05)
    finally:
        answer.set()
    assert (slow, quick.state) == (Health("slow", State.SLOW, "", 50), State.GOOD)


def test_what_an_answer_took_is_told():
    (one,) = health({"corp": Directory(lambda: time.sleep(0.02))}, time.monotonic)
    assert one.took >= 20
