"""Whose turn it is to write: one at a time over threads and processes, and nobody waits for ever."""

import time

from support.servers import HANG
from support.threads import at_once

from iam.store.write_lock import WriteLock


def test_two_processes_take_turns(tmp_path):
    first, second = (
        WriteLock(tmp_path / "turn"),
        WriteLock(tmp_path / "turn"),
    )  # two descriptors lock like two processes
    with first.acquire(1) as mine:
        assert mine
        with second.acquire(0.05) as theirs:
            assert not theirs
    with second.acquire(0.05) as theirs:
        assert theirs
    first.close()
    second.close()


def test_threads_take_turns_with_and_without_a_file(tmp_path):
    for turn in (WriteLock(None), WriteLock(tmp_path / "turn")):
        within = []

        def work(turn=turn, within=within):
            with turn.acquire(HANG) as mine:
                assert mine
                within.append(1)
                time.sleep(0.002)
                assert sum(within) == 1
                within.pop()

        at_once(*[work] * 10)
        with turn.acquire(0) as mine:
            assert mine
        turn.close()


def test_who_comes_too_late_is_told(tmp_path):
    turn = WriteLock(tmp_path / "turn")
    with turn.acquire(0) as mine:
        assert mine
        with turn.acquire(0.01) as again:
            assert not again
    turn.close()
