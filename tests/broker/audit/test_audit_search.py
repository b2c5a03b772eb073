"""The search of the audit log: what is found is what is there, wanted and allowed, in whichever pieces it is read."""

import csv
import io
import json
import tempfile
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.audit.export import as_csv, as_json_lines, escape_unprintable, summarize, to_pretty_json
from broker.audit.log import AuditLog
from broker.audit.query import FIELD_PATHS, AuditAccess, AuditFilter, LogCursor, timestamp_ms_of
from broker.audit.search import AuditSearch

ACCOUNTS = ["111122223333", "444455556666", "777788889999"]
NAMES = ["ann", "Ann", "anna", "jürgen", "JÜRGEN", 'quo"te', "back\\slash", "new\nline", "=cmd", "a.b", ""]
EVENTS = ["CreateUser", "DeleteUser", "SignIn", "AssumeRole"]
ERRORS = ["AccessDenied", "Throttling", None]
SOURCES = ["10.1.2.3", "10.200.0.1", "192.168.0.9", "2001:db8::1", "background"]
NETWORKS = ["10.0.0.0/8", "10.1.2.3", "10.0.0.0/9", "0.0.0.0/0", "2001:db8::/32"]
EVERYTHING = AuditAccess(frozenset(), all_accounts=True)
WIDE = 100_000  # milliseconds between two moments, more than lines may stand out of order


@st.composite
def records(draw):
    account = draw(st.sampled_from([*ACCOUNTS, None]))
    name, error = draw(st.sampled_from(NAMES)), draw(st.sampled_from(ERRORS))
    role = draw(st.sampled_from(["Dev", "admin"]))
    return {
        "userIdentity": {"type": "IAMUser", "userName": name, "sessionContext": {"person": f"iam|{name}"}},
        "at": WIDE * draw(st.integers(1, 30)),
        "eventName": draw(st.sampled_from(EVENTS)),
        "sourceIPAddress": draw(st.sampled_from(SOURCES)),
        "requestParameters": {
            "roleArn": f"arn:aws:iam::{account}:role/{role}",
            "padding": "x" * draw(st.integers(0, 90)),
        },
        "requestID": draw(st.uuids(version=4).map(str)),
        "recipientAccountId": account,
        **({"errorCode": error} if error else {}),
    }


@st.composite
def searches(draw, references=("",)):
    some = st.sampled_from
    after, until = sorted(draw(st.tuples(st.integers(0, 31), st.integers(0, 31))))
    return AuditFilter(
        reference=draw(some([*references, ""])),
        who=draw(some(["", "", "ann", "ANN", "ürg", 'o"t', "h\\s", "w\nl", "nobody"])),
        event=draw(some(["", "", "user", "SignIn"])),
        error=draw(some(["", "", "*", "denied"])),
        account=draw(some(["", "", "jürgen", *ACCOUNTS])),
        role=draw(some(["", "", "role/dev", "Admin"])),
        source=draw(some([None, None, *map(ip_network, NETWORKS)])),
        after=draw(some([None, after * WIDE])),
        until=draw(some([None, until * WIDE])),
    )  # fmt: skip


@st.composite
def views(draw):
    seen = draw(st.frozensets(st.sampled_from(ACCOUNTS)))
    return AuditAccess(seen, all_accounts=draw(st.sampled_from([False, False, True])))


def plainly(written, wanted, view):
    """Return what a search shall find, told without needles, chunks or halving: newest first."""

    def holds(one, name, wish):
        texts = (at(one, path) for path in FIELD_PATHS[name])
        return not wish or any(isinstance(text, str) and wish.lower() in text.lower() for text in texts)

    def from_there(one):
        try:
            return wanted.source is None or ip_network(one["sourceIPAddress"]).subnet_of(wanted.source)
        except (ValueError, TypeError):
            return False

    fitting = [
        one
        for one in written
        if (view.all_accounts or one["recipientAccountId"] in view.accounts)
        and wanted.account in ("", one["recipientAccountId"])
        and (one["requestID"].startswith(wanted.reference) or one["eventID"].startswith(wanted.reference))
        and ("errorCode" in one if wanted.error == "*" else holds(one, "error", wanted.error))
        and all(holds(one, name, getattr(wanted, name)) for name in ("who", "event", "role"))
        and from_there(one)
        and (wanted.after is None or one["at"] >= wanted.after)
        and (wanted.until is None or one["at"] < wanted.until)
    ]
    return [one["eventID"] for one in sorted(fitting, key=lambda one: (one["at"], one["eventID"]), reverse=True)]


def at(record, path):
    for step in path:
        record = record.get(step) if isinstance(record, dict) else None
    return record


def written(folder, several):
    """Write a log as workers do, each a file in the order of time; return the records."""
    numbered = []
    for number, mine in enumerate(several, 1):
        with (folder / f"{number:03}.jsonl").open("w") as file:
            for index, one in enumerate(sorted(mine, key=timestamp_ms_of)):
                record = one | {"eventID": f"{number:02}-{index:04}"}
                file.write(json.dumps(record, separators=(",", ":")) + "\n")
                numbered.append(record)
    return numbered


def pages(search, wanted, view, most):
    """Return all that a search finds, gone on with as a person would."""
    found, before = [], None
    for _ in range(1000):
        page = search.find(wanted, view, most=most, before=before)
        assert len(page.records) <= most
        found += page.records
        if page.next_cursor is None:
            return found
        before = LogCursor.parse(str(page.next_cursor))
    raise AssertionError("the search comes to no end")


def search_in(folder, **more):
    return AuditSearch(folder=Path(folder), pause=lambda: None, **more)


LOGS = st.lists(st.lists(records(), max_size=25), max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.data(), LOGS, views())
def test_no_record_of_another_account_comes_back_whatever_is_asked(data, several, view):
    with tempfile.TemporaryDirectory() as folder:
        there = written(Path(folder), several)
        wanted = data.draw(searches([one["requestID"][:8] for one in there]))
        for one in pages(search_in(folder), wanted, view, 7):
            assert view.all_accounts or one["recipientAccountId"] in view.accounts


@settings(max_examples=150, deadline=None)
@given(st.data(), LOGS, views())
def test_a_search_finds_what_reading_everything_finds_newest_first(data, several, view):
    with tempfile.TemporaryDirectory() as folder:
        there = written(Path(folder), several)
        wanted = data.draw(searches([one["requestID"][:8] for one in there]))
        expected = plainly(there, wanted, view)
        chunk, max_bytes_read = (
            data.draw(st.sampled_from([64, 300, 1000, 10**6])),
            data.draw(st.sampled_from([1, 2000, 10**9])),
        )
        search = search_in(folder, chunk=chunk, max_bytes_read=max_bytes_read)
        assert [one["eventID"] for one in pages(search, wanted, view, data.draw(st.integers(1, 30)))] == expected


@given(searches(), records())
def test_a_line_that_fits_holds_every_needle(wanted, record):
    text = json.dumps(record, separators=(",", ":")).lower().encode()
    if wanted.matches(record):
        assert all(needle in text for needle in wanted.needles())


# --- examples ---------------------------------------------------------------------------------------------------------


def lines(folder, name="001.jsonl", *, count=1000, **more):
    with (folder / name).open("a") as file:
        for number in range(count):
            record = {"at": WIDE * number, "eventID": f"{number:05}", "recipientAccountId": ACCOUNTS[0]} | more
            file.write(json.dumps(record, separators=(",", ":")) + "\n")


def test_what_the_log_writes_is_found(tmp_path):
    log = AuditLog(tmp_path, flush_ms=10)
    log.append({"at": 5, "eventID": "1", "eventName": "SignIn", "recipientAccountId": ACCOUNTS[0]})
    found = search_in(tmp_path).find(AuditFilter(event="signin"), EVERYTHING, most=10)
    log.close()
    assert [one["seq"] for one in found.records] == [1]
    assert found.next_cursor is None


def test_a_refusal_that_was_abridged_is_found_and_shown(tmp_path):
    log, role = AuditLog(tmp_path), f"arn:aws:iam::{ACCOUNTS[1]}:role/Admin"
    tags = [{"key": f"k{number}", "value": "\u00e9" * 256} for number in range(50)]
    who = {"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/r/ann", "sessionContext": {"person": "iam|ann"}}
    log.append({"eventName": "AssumeRole", "errorCode": "AccessDenied", "errorMessage": "no", "userIdentity": who,
                "requestID": "r", "eventID": "e", "at": WIDE, "recipientAccountId": ACCOUNTS[0],
                "requestParameters": {"roleArn": role, "policy": "p" * 9000, **dict.fromkeys(NAMES, tags)},
                "additionalEventData": {"reason": "secret of another account", "decisions": [1]}})  # fmt: skip
    for wanted in (AuditFilter(role="role/Admin"), AuditFilter(who="iam|ann"), AuditFilter(error="denied")):
        (found,) = search_in(tmp_path).find(wanted, EVERYTHING, most=10).records
        assert found["requestParameters"]["omitted"] is True
        assert summarize(found).role == role
        assert role in as_csv([found])
        assert '"originalSize": ' in to_pretty_json(found)
    (seen,) = search_in(tmp_path).find(AuditFilter(), AuditAccess(frozenset({ACCOUNTS[0]})), most=10).records
    assert seen["additionalEventData"] == {}  # as of any other try of another account's role


def test_an_empty_folder_has_nothing(tmp_path):
    assert search_in(tmp_path / "none").find(AuditFilter(), EVERYTHING, most=10).records == ()


def test_a_search_that_reads_too_much_stops_and_says_how_far_it_came(tmp_path):
    lines(tmp_path)
    search = search_in(tmp_path, chunk=1000, max_bytes_read=5000)
    found = search.find(AuditFilter(who="nobody"), EVERYTHING, most=10)
    assert found.records == ()
    assert 900 * WIDE < found.searched_back_to < 999 * WIDE
    further = search.find(AuditFilter(who="nobody"), EVERYTHING, most=10, before=found.next_cursor)
    assert further.searched_back_to < found.searched_back_to


def test_others_go_on_between_two_chunks(tmp_path):
    lines(tmp_path)
    size, pauses = (tmp_path / "001.jsonl").stat().st_size, []
    AuditSearch(folder=tmp_path, pause=lambda: pauses.append(1), chunk=1000).find(
        AuditFilter(who="no"), EVERYTHING, most=10
    )
    assert len(pauses) >= size // 1000


def test_a_search_that_has_enough_reads_no_further(tmp_path):
    lines(tmp_path)
    pauses = []
    search = AuditSearch(folder=tmp_path, pause=lambda: pauses.append(1), chunk=2000)
    assert len(search.find(AuditFilter(), EVERYTHING, most=5).records) == 5
    assert len(pauses) < 3


def test_a_search_for_the_past_begins_there(tmp_path):
    with (tmp_path / "001.jsonl").open("w") as file:
        for number in range(40_000):
            file.write(f'{{"at":{WIDE * number},"eventID":"{number:05}","pad":"{"x" * 60}"}}\n')
    pauses = []
    search = AuditSearch(folder=tmp_path, pause=lambda: pauses.append(1))
    found = search.find(AuditFilter(until=WIDE * 20_000), EVERYTHING, most=3)
    assert [one["eventID"] for one in found.records] == ["19999", "19998", "19997"]
    assert len(pauses) <= 3


def test_damaged_lines_and_half_lines_are_passed_over(tmp_path):
    lines(tmp_path, count=3)
    with (tmp_path / "001.jsonl").open("ab") as file:
        file.write(
            b'\xff\xfe{"at":5\n[1,2]\n"text"\n\n{"at":"later","eventID":"odd","recipientAccountId":["1"]}\n{"at":9'
        )
    found = search_in(tmp_path).find(AuditFilter(), EVERYTHING, most=10)
    assert [one["eventID"] for one in found.records] == ["00002", "00001", "odd", "00000"]
    assert (
        search_in(tmp_path).find(AuditFilter(), AuditAccess(frozenset(ACCOUNTS)), most=10).records[-1]["eventID"]
        == "00000"
    )


def test_a_record_longer_than_a_chunk_is_found_whole(tmp_path):
    lines(tmp_path, count=3, requestParameters={"userName": "long", "text": "y" * 10_000})
    found = search_in(tmp_path, chunk=512).find(AuditFilter(who="LONG"), EVERYTHING, most=10)
    assert [len(one["requestParameters"]["text"]) for one in found.records] == [10_000] * 3


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "002.jsonl").symlink_to(tmp_path / "002.jsonl")  # a loop
    assert search_in(tmp_path).find(AuditFilter(), EVERYTHING, most=1).unreadable == ("002.jsonl",)


@pytest.mark.parametrize("text", ["", "5", "x.y", "-1.a", "1" * 16 + ".a", "٣.a"])
def test_what_is_no_place_is_none(text):
    assert LogCursor.parse(text) is None


# --- as people read them ----------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(max_size=9), st.recursive(st.none() | st.text() | st.integers(), st.lists), max_size=4))
def test_whatever_a_record_holds_it_can_be_shown_and_written(record):
    to_pretty_json(record).encode()
    summarize(record)
    as_csv([record]).encode()
    assert [json.loads(one) for one in as_json_lines([record]).splitlines()] == [record]


@given(st.text("=+-@\t\r\n ab\u202e,\"'", max_size=6))
def test_no_cell_of_a_table_begins_as_a_formula(text):
    cells = list(csv.reader(io.StringIO(as_csv([{"eventName": text, "eventTime": text}]), newline="")))[1]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)


def test_signs_that_disguise_a_text_are_written_out():
    assert escape_unprintable("a\u202eb\x1b[2J\u200bü\n") == "a\\u202eb\\u001b[2J\\u200bü\n"


def test_a_very_long_record_is_cut_on_the_page():
    assert len(to_pretty_json({"a": "x" * 100_000})) < 21_000


def test_the_filters_that_are_set_are_told():
    wanted = AuditFilter(who="ann", source=ip_network("10.0.0.0/8"), after=0)
    assert wanted.active_filters() == {"who": "ann", "source": "10.0.0.0/8", "after": "0"}
    assert replace(wanted, who="").active_filters() == {"source": "10.0.0.0/8", "after": "0"}
