"""Whether directories answer: asked together, told in a word, and never waited for too long."""

import threading
import time

import pytest
from support.servers import HANG

from broker.runtime.directory_health import DirectoryHealth, DirectoryState, check_directories
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
        (Directory(lambda: None), DirectoryState.GOOD, ""),
        (raising(ProviderUnavailable("ldap://x: refused")), DirectoryState.AWAY, "ProviderUnavailable"),
        (raising(ProviderUnavailable("certificate", security=True)), DirectoryState.UNTRUSTED, "ProviderUnavailable"),
        (raising(OSError("secret of the service account")), DirectoryState.BROKEN, "OSError"),
    ],
)
def test_a_state_is_a_word_and_the_class_of_the_error(directory, state, error):
    assert check_directories({"corp": directory}, still) == (DirectoryHealth("corp", state, error, 0),)


def test_no_directory_has_no_state():
    assert check_directories({}, still) == ()


def test_directories_are_asked_at_the_same_time():
    meeting = threading.Barrier(3, timeout=HANG)
    found = check_directories({name: Directory(meeting.wait) for name in "cab"}, still)
    assert [(one.name, one.state) for one in found] == [
        ("a", DirectoryState.GOOD),
        ("b", DirectoryState.GOOD),
        ("c", DirectoryState.GOOD),
    ]


def test_a_directory_that_takes_too_long_is_not_waited_for():
    answer = threading.Event()
    try:
        slow, quick = check_directories(
            {"slow": Directory(answer.wait), "zip": Directory(lambda: None)}, still, at_most=0.05
        )
    finally:
        answer.set()
    assert (slow, quick.state) == (DirectoryHealth("slow", DirectoryState.SLOW, "", 50), DirectoryState.GOOD)


def test_what_an_answer_took_is_told():
    (one,) = check_directories({"corp": Directory(lambda: time.sleep(0.02))}, time.monotonic)
    assert one.took >= 20
