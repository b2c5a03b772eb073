import json
import resource
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.threads import ended
from support.timing import cost

from broker.audit.chain import verify
from broker.audit.log import AuditLog, AuditUnavailable, follow, log_files, read_last_records

TEXTS = st.text(max_size=40)
RECORDS = st.dictionaries(
    st.text("abcXYZ", min_size=1, max_size=8), TEXTS | st.integers() | st.none() | st.lists(TEXTS), max_size=5
)


@pytest.fixture
def log(tmp_path):
    log = AuditLog(tmp_path / "audit", flush_ms=10)
    yield log
    log.close()


def lines(log):
    return log.path.read_bytes().split(b"\n")[:-1]


def test_a_record_is_in_the_file_when_append_returns(log):
    log.append({"eventName": "GetCallerIdentity"})
    assert json.loads(lines(log)[0]) == {"seq": 1, "prev": "0" * 64, "eventName": "GetCallerIdentity"}


@settings(max_examples=50)
@given(st.lists(RECORDS, max_size=5))
def test_whatever_is_recorded_is_one_line_of_ascii_each_and_verifies(tmp_path_factory, written):
    log = AuditLog(tmp_path_factory.mktemp("audit"), flush_ms=10)
    for record in written:
        log.append(record)
    log.close()
    assert log.path.read_bytes().isascii()
    read = [json.loads(line) for line in lines(log)]
    assert [{key: record[key] for key in record if key not in ("seq", "prev")} for record in read] == written
    assert verify(log.path).lines == len(written)
    assert verify(log.path).fault == ""


def test_a_line_break_in_a_user_name_makes_no_second_record(log):
    log.append({"userName": 'x\n{"eventName":"forged"}\r\x1b[2J\u2028'})
    assert len(lines(log)) == 1
    assert b"\x1b" not in lines(log)[0]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    log = AuditLog(tmp_path_factory.mktemp("chain"), flush_ms=10)
    for number in range(5):
        log.append({"eventName": f"event {number}"})
    log.close()
    return log.path


@settings(max_examples=150)
@given(data=st.data())
def test_any_changed_byte_before_the_last_line_breaks_the_chain(chain, tmp_path_factory, data):
    content = chain.read_bytes()
    at = data.draw(st.integers(0, content.rstrip(b"\n").rfind(b"\n")))
    flipped = content[at] ^ (1 << data.draw(st.integers(0, 7)))
    copy = tmp_path_factory.mktemp("copy") / "001.jsonl"
    copy.write_bytes(content[:at] + bytes([flipped]) + content[at + 1 :])
    assert verify(copy).fault


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda all_: all_[:2] + all_[3:], "line 3 has the number 4"),
        (lambda all_: [all_[1], all_[0], *all_[2:]], "line 1 has the number 2"),
        (lambda all_: [*all_[:2], all_[1], *all_[2:]], "line 3 has the number 2"),
        (lambda all_: [*all_[:2], b"nonsense", *all_[3:]], "line 3 is not a record"),
    ],
    ids=["removed", "swapped", "repeated", "replaced"],
)
def test_a_removed_moved_or_foreign_line_breaks_the_chain(chain, tmp_path, damage, fault):
    copy = tmp_path / "001.jsonl"
    copy.write_bytes(b"".join(line + b"\n" for line in damage(chain.read_bytes().split(b"\n")[:-1])))
    assert verify(copy).fault == fault


def test_a_shorter_log_has_another_head(chain, tmp_path):
    shorter = tmp_path / "001.jsonl"
    shorter.write_bytes(b"".join(chain.read_bytes().splitlines(keepends=True)[:-1]))
    assert verify(shorter).fault == ""
    assert verify(shorter).head != verify(chain).head


def test_the_chain_goes_on_after_a_restart(tmp_path):
    for name in ("first", "second", "third"):
        log = AuditLog(tmp_path)
        log.append({"eventName": name, "padding": "x" * 100_000})
        log.close()
    assert [path.name for path in log_files(tmp_path)] == ["001.jsonl"]
    assert verify(log.path).lines == 3
    assert verify(log.path).fault == ""


def test_half_a_line_from_a_power_cut_is_cut_off(tmp_path):
    log = AuditLog(tmp_path)
    log.append({"eventName": "whole"})
    log.close()
    with log.path.open("ab") as file:
        file.write(b'{"seq":2,"prev":"abc","eventN')
    again = AuditLog(tmp_path)
    again.append({"eventName": "after"})
    again.close()
    assert [json.loads(line)["eventName"] for line in lines(again)] == ["whole", "after"]
    assert verify(again.path).fault == ""


def test_a_damaged_last_line_stops_the_start(tmp_path):
    (tmp_path / "001.jsonl").write_bytes(b"nonsense\n")
    with pytest.raises(AuditUnavailable) as caught:
        AuditLog(tmp_path)
    assert "move the file away" in caught.value.log


def test_two_processes_write_two_files(tmp_path):
    program = f"""
import sys, pathlib
from broker.audit.log import AuditLog
log = AuditLog(pathlib.Path({str(tmp_path)!r}))
log.append({{"eventName": "other"}})
print(log.path.name, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "001.jsonl\n"
        mine = AuditLog(tmp_path)
        mine.append({"eventName": "mine"})
        assert mine.path.name == "002.jsonl"
        mine.close()
        other.communicate()
    assert all(not verify(path).fault for path in log_files(tmp_path))


def test_only_its_owner_can_read_the_log(log):
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert log.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def small_disk(log):
    """Let this process's files grow no further than a few bytes beyond what the log has now, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log.append({"eventName": "before"})
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size + 20, hard))

    def make_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    yield make_room
    make_room()


def test_a_full_disk_refuses_until_there_is_room_and_leaves_no_half_line(log, small_disk):
    for _ in range(2):
        with pytest.raises(AuditUnavailable):
            log.append({"eventName": "does not fit"})
        with pytest.raises(AuditUnavailable):
            log.check()
    assert len(lines(log)) == 1
    small_disk()
    log.check()
    log.append({"eventName": "after"})
    assert [json.loads(line)["eventName"] for line in lines(log)] == ["before", "after"]
    assert verify(log.path).fault == ""


@pytest.mark.usefixtures("small_disk")
def test_the_refusal_tells_the_caller_nothing_of_the_disk(log):
    with pytest.raises(AuditUnavailable) as caught:
        log.append({"eventName": "does not fit"})
    assert str(caught.value) == "The service cannot record this request. Try again later."
    assert "audit log" in caught.value.log


def test_a_folder_that_cannot_be_made_stops_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AuditUnavailable):
        AuditLog(tmp_path / "file")


def test_records_reach_the_disk_one_by_one_where_the_operator_says_so(tmp_path):
    log = AuditLog(tmp_path, sync="always")
    log.append({"eventName": "one"})
    log.close()
    assert verify(log.path).lines == 1


def test_the_flush_goes_on_while_greenlets_hog_the_thread(tmp_path):
    # strace would tell more; that the thread lives beside a busy one shows in a patched process of its own.
    program = f"""
from gevent import monkey; monkey.patch_all()
import pathlib, time; from broker.audit.log import AuditLog
log = AuditLog(pathlib.Path({str(tmp_path)!r}), flush_ms=10); log.append({{"eventName": "one"}})
end = time.monotonic() + 60
while log._synced < 1 and time.monotonic() < end: pass  # never yields to the hub
print(log._synced)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_tail_gives_the_newest_of_all_files_in_order(tmp_path):
    logs = [AuditLog(tmp_path), AuditLog(tmp_path)]
    for number in range(10):
        second = f"2030-01-01T00:00:{number // 4:02}Z"
        logs[number % 2].append({"eventTime": second, "at": 1_893_456_000_000 + number, "n": number})
    for log in logs:
        log.close()
    assert [record["n"] for record in read_last_records(tmp_path, 4)] == [6, 7, 8, 9]
    assert read_last_records(tmp_path, 0) == []
    assert len(read_last_records(tmp_path, 100)) == 10


def test_follow_yields_what_is_written_from_now_on_also_to_new_files(log):
    log.append({"n": 1})
    following = follow(log.path.parent, every=0.01)
    other = AuditLog(log.path.parent)
    heard = threading.Event()

    # A generator begins when it is first asked: until then, what is written is not followed.
    def write() -> None:
        while not heard.wait(0.02):
            other.append({"n": 2})

    writer = threading.Thread(target=write)
    writer.start()
    assert next(following)["n"] == 2
    heard.set()
    assert ended(writer)
    other.close()


def test_an_append_costs_microseconds(tmp_path):
    log = AuditLog(tmp_path)
    record = {
        "eventName": "GetCallerIdentity",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/x"},
    }
    least = cost(lambda: log.append(record), tries=200)
    log.close()
    assert least < 1
