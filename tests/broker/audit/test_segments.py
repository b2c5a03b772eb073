"""The audit log over sealed segments, the refusals of strangers, and what a killed worker did not append."""

import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.servers import HANG

from broker.audit.chain import START, archived_anchors, verify, verify_all
from broker.audit.log import AuditLog, AuditUnavailable, follow, log_files, read_last_records
from broker.audit.query import AuditAccess, AuditFilter
from broker.audit.reconciliation import Reconciliation, _ids_in
from broker.audit.search import AuditSearch
from broker.audit.transaction import store_record
from broker.commands import audit as commands
from broker.runtime.thread_pool import run_in_thread_pool
from iam.store.store import Store
from iam.store.vault import Vault

ACCOUNT = "111111111111"
HOUR = 3_600_000
AT = 1_800_000_000_000


def fill(log: AuditLog, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        log.append({"eventName": "E", "eventID": f"id-{number}", "at": AT + number, "recipientAccountId": None})


def names(folder: Path) -> list[str]:
    return [path.name for path in log_files(folder)]


def faults(folder: Path) -> list[str]:
    return [result.fault for result in verify_all(folder) if result.fault]


def test_a_file_is_sealed_and_its_chain_goes_on(tmp_path):
    log = AuditLog(tmp_path, segment_bytes=1000)
    fill(log, 30)
    log.close()
    assert names(tmp_path)[0] == "001-000001.jsonl"
    assert names(tmp_path)[-1] == "001.jsonl"
    assert len(names(tmp_path)) > 3
    assert log_files(tmp_path)[0].stat().st_mode & 0o777 == 0o400
    assert faults(tmp_path) == []
    assert verify_all(tmp_path)[-1].seq == 30
    assert [one["eventID"] for one in read_last_records(tmp_path, 30)] == [f"id-{number}" for number in range(30)]
    again = AuditLog(tmp_path, segment_bytes=1000)
    fill(again, 1, 30)
    again.close()
    assert faults(tmp_path) == []


def test_a_log_whose_worker_died_while_it_sealed_goes_on_with_the_chain(tmp_path):
    log = AuditLog(tmp_path, segment_bytes=1000)
    fill(log, 30)
    log.close()
    log.path.rename(tmp_path / "001-000099.jsonl")
    again = AuditLog(tmp_path)
    fill(again, 1, 30)
    again.close()
    assert faults(tmp_path) == []
    assert verify_all(tmp_path)[-1].seq == 31


def open_files(folder: Path) -> int:
    """Return how many descriptors of this process are of files in a folder."""
    return sum(str(folder) in str(fd.resolve()) for fd in Path("/proc/self/fd").iterdir())


class UnmovableNext(type(Path())):
    """A path whose ``.next`` cannot be renamed."""

    def rename(self, target: Path) -> Path:
        if self.suffix == ".next":
            raise OSError(5, "Input/output error")
        return super().rename(target)


def test_a_file_that_cannot_be_replaced_keeps_its_name_and_its_readers(tmp_path):
    log = AuditLog(tmp_path, segment_bytes=1000)
    path, log.path = log.path, UnmovableNext(log.path)
    before = open_files(tmp_path)
    fill(log, 30)
    assert names(tmp_path) == ["001.jsonl"]
    assert open_files(tmp_path) == before
    log.path = path
    fill(log, 10, 30)
    log.close()
    assert len(read_last_records(tmp_path, 100)) == 40
    assert faults(tmp_path) == []


def test_a_log_that_cannot_be_opened_keeps_no_descriptor(tmp_path):
    tmp_path.joinpath("001.jsonl").symlink_to(tmp_path / "elsewhere")
    before = open_files(tmp_path)
    with pytest.raises(AuditUnavailable):
        AuditLog(tmp_path)
    assert open_files(tmp_path) == before


def test_an_abridged_record_of_archiving_says_nothing_of_a_chain(tmp_path):
    record = {"eventName": "ArchiveAuditSegments", "eventSource": "operator.fedgate",
              "requestParameters": {"omitted": True, "originalSize": 200_000}}  # fmt: skip
    tmp_path.joinpath("001.jsonl").write_text(json.dumps(record) + "\n")
    assert archived_anchors(tmp_path) == {}


def test_a_segment_that_is_changed_or_missing_is_found(tmp_path):
    log = AuditLog(tmp_path, segment_bytes=1000)
    fill(log, 30)
    log.close()
    second = log_files(tmp_path)[1]
    text = second.read_bytes()
    second.chmod(0o600)
    second.write_bytes(text.replace(b"id-", b"ie-", 1))
    assert len(faults(tmp_path)) == 1
    second.unlink()
    assert "has the number" in faults(tmp_path)[0]
    second.write_bytes(text)
    assert faults(tmp_path) == []
    log_files(tmp_path)[0].rename(tmp_path / "taken-away")
    assert "has the number" in faults(tmp_path)[0]


def test_archived_segments_are_not_missed_and_others_are(tmp_path):
    folder, to = tmp_path / "audit", tmp_path / "archive"
    log = AuditLog(folder, segment_bytes=1000)
    fill(log, 30)
    results = {result.path: result for result in verify_all(folder)}
    oldest, second = log_files(folder)[:2]
    end = commands.chain.Anchor(results[second].seq, results[second].head)
    commands._record_archiving(folder, {"001": end}, [oldest, second])
    commands._move([oldest, second], to)
    fill(log, 5, 30)
    log.close()
    assert faults(folder) == []
    assert archived_anchors(folder) == {"001": end}
    assert verify(to / oldest.name, START).fault == ""
    log_files(folder)[0].unlink()
    assert faults(folder) != []


def test_who_follows_the_log_reads_each_record_once_when_a_file_is_sealed(tmp_path):
    log = AuditLog(tmp_path, segment_bytes=1000)
    fill(log, 2)
    seen: list[str] = []

    def read() -> None:
        for record in follow(tmp_path, every=0.01):
            seen.append(record["eventID"])
            if record["eventID"] == "id-29":
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    number = 2
    while not seen and number < 20:  # the reader has begun once it sees a record
        fill(log, 1, number)
        number += 1
        time.sleep(0.05)
    fill(log, 30 - number, number)
    reader.join(HANG)
    assert seen == sorted(set(seen), key=lambda name: int(name[3:]))
    assert seen[-1] == "id-29"
    log.close()


def test_a_check_leaves_the_log_as_it_is(tmp_path):
    log = AuditLog(tmp_path)
    fill(log, 1)
    before = log.path.stat()
    log.check()
    after = log.path.stat()
    assert (before.st_size, before.st_blocks, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_blocks,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
    log.close()


# --- strangers --------------------------------------------------------------------------------------------------------


def refused(number: int, **more: object) -> dict[str, object]:
    at = AT + number
    return {"eventName": "GetCallerIdentity", "errorCode": "InvalidClientTokenId", "at": at, "eventTime": str(at),
            "userIdentity": {"type": "Unknown"}, "sourceIPAddress": f"192.0.2.{number % 250}",
            "userAgent": "x" * 2000, "requestParameters": None, **more}  # fmt: skip


def test_refusals_of_strangers_above_the_rate_share_one_record(tmp_path):
    log = AuditLog(tmp_path, strangers_per_minute=10)
    for number in range(1000):
        log.append(refused(number))
    known = refused(1, userIdentity={"type": "IAMUser"})
    for _ in range(20):
        log.append(known)
    log.append(refused(60_000))
    log.close()
    records = read_last_records(tmp_path, 100)
    assert [one["userIdentity"]["type"] for one in records].count("IAMUser") == 20
    aggregated = [one for one in records if one["eventName"] == "RefusedRequests"]
    assert len(aggregated) == 1
    facts = aggregated[0]["additionalEventData"]
    assert (facts["count"], facts["first"], facts["last"]) == (990, str(AT + 10), str(AT + 999))
    assert facts["kinds"] == {"GetCallerIdentity InvalidClientTokenId": 990}
    assert sum(facts["sources"].values()) == 990
    assert len(facts["sources"]) <= 21
    assert len(records) == 10 + 20 + 1 + 1
    assert tmp_path.joinpath("001.jsonl").stat().st_size < 100_000


def test_the_record_of_many_refusals_tells_no_account_and_blames_nobody(tmp_path):
    log = AuditLog(tmp_path, strangers_per_minute=1)
    named = {"type": "IAMUser", "userName": "ann", "accountId": ACCOUNT, "accessKeyId": ""}
    log.append(refused(1))
    log.append(refused(2, requestID="other", recipientAccountId="222222222222"))
    log.append(refused(3, requestID="of-last", recipientAccountId=ACCOUNT, userIdentity=named, errorCode="Throttling",
                       eventID="e", responseElements={"ConsoleLogin": "Failure"}))  # fmt: skip
    log.close()
    aggregated = read_last_records(tmp_path, 1)[0]
    assert aggregated["additionalEventData"]["count"] == 2
    assert not AuditAccess(frozenset({ACCOUNT})).may_see(aggregated)
    assert AuditAccess(frozenset(), all_accounts=True).may_see(aggregated)
    assert (aggregated["userIdentity"], aggregated["recipientAccountId"]) == ({"type": "Unknown"}, None)
    assert "requestID" not in aggregated
    assert not {ACCOUNT, "ann", "of-last"} & set(json.dumps(aggregated).split('"'))
    assert faults(tmp_path) == []


PROVED = {
    "key": {"type": "AssumedRole", "accessKeyId": "ASIAEXAMPLE"},
    "person": {"type": "DirectoryUser", "userName": "ann", "sessionContext": {"person": "corp|ann"}},
    "user": {"type": "IAMUser", "userName": "ann", "sessionContext": {"person": "iam|ann"}},
}


@pytest.mark.parametrize("who", PROVED)
def test_of_those_who_have_proved_who_they_are_every_refusal_is_kept(tmp_path, who):
    log = AuditLog(tmp_path, strangers_per_minute=1)
    for number in range(5):
        log.append(refused(number, userIdentity=PROVED[who], errorCode="Throttling"))
    log.close()
    assert [one["userIdentity"] for one in read_last_records(tmp_path, 10)] == [PROVED[who]] * 5


# --- what a killed worker did not append ------------------------------------------------------------------------------


def test_a_change_whose_record_never_reached_the_log_is_appended_once_and_found_before(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'f.db'}", Vault(b"k" * 32), monotonic=time.monotonic)
    store.migrate()
    log = AuditLog(tmp_path / "audit")
    in_both, lost = ({"eventName": "CreateUser", "eventID": name, "at": AT, "recipientAccountId": None,
                      "eventTime": "now"} for name in ("in-both", "lost"))  # fmt: skip
    with store.write() as tx:
        store_record(tx, in_both)
        store_record(tx, lost)
    log.append(in_both)
    seconds: list[int] = [10]
    reconciliation = Reconciliation(
        store,
        log,
        tmp_path / "audit",
        lambda: datetime.fromtimestamp(AT / 1000 + seconds[0], UTC),
        run_in_thread_pool,
    )
    search = AuditSearch(folder=tmp_path / "audit", pause=lambda: None, unlogged=reconciliation.unlogged_lines)

    def found() -> list[str]:
        everything = AuditAccess(frozenset(), all_accounts=True)
        return [one["eventID"] for one in search.find(AuditFilter(), everything, most=10).records]

    assert sorted(found()) == ["in-both", "lost"]
    reconciliation.run()  # it may still be on its way
    assert len(read_last_records(tmp_path / "audit", 10)) == 1
    seconds[0] = 60
    reconciliation.run()
    reconciliation.run()
    assert [one["eventID"] for one in read_last_records(tmp_path / "audit", 10)] == ["in-both", "lost"]
    assert sorted(found()) == ["in-both", "lost"]
    assert reconciliation.unlogged_lines() == b""
    assert faults(tmp_path / "audit") == []
    log.close()
    store.close()


def test_for_a_change_that_is_in_no_file_nothing_older_than_it_is_read(tmp_path):
    now = AT + 2 * HOUR
    lines = [
        json.dumps({"eventID": f"id-{number}", "at": now - HOUR + number, "x": "x" * 1000}, separators=(",", ":"))
        for number in range(3000)
    ]
    text = "\n".join(lines) + "\n"
    recent = json.dumps({"eventID": "recent", "at": now}, separators=(",", ":")) + "\n"
    tmp_path.joinpath("001-000001.jsonl").write_text(text.replace("id-", "sealed-"))
    tmp_path.joinpath("001.jsonl").write_text(text + recent)
    wanted = {"of-another-machine", "recent", "sealed-0", "id-0"}
    assert _ids_in(tmp_path, wanted, now - 60_000) == {"recent"}
    assert _ids_in(tmp_path, wanted, now - 2 * HOUR) == wanted - {"of-another-machine"}
