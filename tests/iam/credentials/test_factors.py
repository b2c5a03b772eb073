"""Second factors of people: each step, each code and each state of a counter counts once."""

import base64
import itertools
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from support import threads

from iam.credentials import factors, failed_attempts, totp, virtual_mfa
from iam.credentials.person_id import delete_person_data, iam_person_id, iam_subject
from iam.errors import (
    DeleteConflict,
    EntityAlreadyExists,
    LimitExceeded,
    NoSuchEntity,
    ValidationError,
)
from iam.limits import Limits
from iam.operations import account as account_operations
from iam.operations import reports
from iam.operations.credentials import mfa, passwords
from iam.operations.users import create_user, delete_user, update_user
from iam.store import pinned_roles
from iam.store.database import writing_engine
from iam.store.schema import failed_attempt, mfa_device, recovery_code, role_mark, second_factor, tag

PAT = "ldap-provider/corp|5c1f7a"
ACCOUNT = "111122223333"
ROOT = f"iam|{ACCOUNT}"
SEED = b"12345678901234567890"


@dataclass
class FactorSetup:
    """An account on a database, a clock that moves, and calls as the pages make them."""

    account: object
    now: datetime
    names: itertools.count = field(default_factory=itertools.count)

    def later(self, **duration):
        self.now += timedelta(**duration)
        self.account = replace(self.account, now=self.now)

    def run(self, operation, **p):
        return self.account.run(operation, **p)

    def do(self, action, *args, **more):
        with self.account.store.write(bump_revision=False) as tx:
            return action(tx, *args, **more)

    def user(self, name="ann"):
        return iam_person_id(ACCOUNT, self.run(create_user, UserName=name)["User"]["UserId"])

    def code(self, seed=SEED, steps=0):
        return totp.code_at(seed, totp.step_at(self.now) + steps)

    def wrong(self, seed=SEED):
        near = {self.code(seed, steps) for steps in range(-3, 4)}
        return next(guess for guess in map("{:06}".format, range(10)) if guess not in near)

    def app(self, person, seed=SEED, name="phone", **more):
        """Add an app, and wait until its next code."""
        vault = self.account.vault
        made = self.do(
            factors.add_totp, person, name, seed, self.code(seed), self.now, vault, secrets.token_bytes, **more
        )
        self.later(seconds=30)
        return made

    def consume(self, person, code):
        return self.do(factors.consume_totp, person, code, self.now, self.account.vault)

    def passkey(self, person, credential_id=b"credential", sign_count=0, **more):
        vault = self.account.vault
        return self.do(
            factors.add_passkey, person, "key", credential_id, b"cose", sign_count, self.now, vault,
            secrets.token_bytes, **more,
        )  # fmt: skip

    def codes(self, person):
        return self.do(factors.replace_recovery_codes, person, self.now, secrets.token_bytes)

    def recover(self, person, code):
        return self.do(factors.consume_recovery_code, person, code, self.now)

    def of(self, person):
        return self.do(factors.factors_of, person)

    def rows(self, table):
        return self.do(lambda tx: tx.execute(select(table)).all())


def world_of(account):
    return FactorSetup(account, account.now)


@pytest.fixture
def world(account):
    return world_of(account)


@pytest.fixture
def any_setup(any_account):
    return world_of(any_account)


@pytest.fixture(params=["directory", "user", "root"])
def person(request, world):
    """Each kind of person in turn."""
    return {"directory": lambda: PAT, "user": world.user, "root": lambda: ROOT}[request.param]()


@contextmanager
def at_once(world, works):
    """Give what works came to that ran at once, each on a connection of its own."""

    def attempt(work):
        with writing_engine(world.account.store.engine).begin() as connection:
            return work(connection)

    yield threads.at_once(*(partial(attempt, work) for work in works))


# --- persons


def test_a_person_of_iam_is_told_by_the_unique_id_or_the_account():
    assert iam_person_id(ACCOUNT, "AIDAX") == "iam|AIDAX"
    assert iam_person_id(ACCOUNT, None) == ROOT
    assert (iam_subject("iam|AIDAX"), iam_subject(ROOT), iam_subject(PAT)) == ("AIDAX", ACCOUNT, None)
    assert iam_subject("iamx|AIDAX") is None


# --- authenticator apps


def test_an_app_is_added_by_a_code_and_that_step_is_spent(world, person):
    made = world.do(
        factors.add_totp, person, "phone", SEED, world.code(), world.now, world.account.vault, secrets.token_bytes
    )
    assert (made.person, made.kind, made.name, made.last_used) == (person, "totp", "phone", None)
    assert world.of(person) == (made,)
    assert made.created == int(world.now.timestamp() * 1000)
    assert not world.consume(person, world.code())
    world.later(seconds=30)
    assert world.consume(person, world.code())
    assert not world.consume(person, world.code())
    world.later(seconds=90)
    assert world.consume(person, world.code())
    (used,) = world.of(person)
    assert 0 <= world.now.timestamp() - used.last_used / 1000 < 30


def test_a_code_that_does_not_fit_adds_nothing(world, person):
    for code in (world.wrong(), world.code(steps=-2), world.code(steps=2), "", "12345", "x" * 6):
        made = world.do(
            factors.add_totp, person, "phone", SEED, code, world.now, world.account.vault, secrets.token_bytes
        )
        assert made is None
    assert world.of(person) == ()


@pytest.mark.parametrize("steps", [-1, 1])
def test_a_code_of_a_neighboring_step_adds_an_app(world, person, steps):
    code = world.code(steps=steps)
    assert world.do(factors.add_totp, person, "phone", SEED, code, world.now, world.account.vault, secrets.token_bytes)
    assert not world.consume(person, code)


def test_the_database_holds_no_seed_and_no_key_in_clear(world, person):
    world.app(person)
    world.passkey(person)
    kept = [*(row.sealed for row in world.rows(second_factor)), *(row.seed for row in world.rows(mfa_device))]
    assert len(kept) == 2
    assert not any(secret in one for secret in (SEED, b"cose") for one in kept)


def test_any_of_several_apps_will_do_and_each_has_steps_of_its_own(world, person):
    other = SEED[::-1]
    world.app(person)
    world.app(person, other, "tablet")
    assert world.consume(person, world.code(other))
    assert world.consume(person, world.code())
    assert not world.consume(person, world.code(other))


def test_the_app_of_somebody_else_proves_nothing(world, person):
    world.app(person)
    assert not world.consume("ldap-provider/corp|other", world.code())
    assert not world.consume(iam_person_id(ACCOUNT, "AIDAOTHER"), world.code())
    assert world.consume(person, world.code())


@pytest.mark.parametrize("who", ["directory", "user"])
def test_of_two_connections_at_once_one_spends_the_code(any_setup, who):
    person = PAT if who == "directory" else any_setup.user()
    any_setup.app(person)
    code, now, vault = any_setup.code(), any_setup.now, any_setup.account.vault
    consume = [lambda tx: factors.consume_totp(tx, person, code, now, vault)] * 2
    with at_once(any_setup, consume) as answers:
        assert sorted(answers) == [False, True]
    assert not any_setup.consume(person, code)


def test_of_many_requests_at_once_one_spends_the_code(any_setup):
    any_setup.app(PAT)
    code = any_setup.code()
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda _: any_setup.consume(PAT, code), range(4))) == [False, False, False, True]


@given(offsets=st.lists(st.integers(-2, 2), min_size=1, max_size=12))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_accepted_steps_only_ever_grow(account, offsets):
    world = world_of(account)
    person = f"ldap-provider/corp|{secrets.token_hex(8)}"
    world.app(person)
    newest = totp.step_at(world.now) - 1
    for offset in offsets:
        step = totp.step_at(world.now) + offset
        wanted = abs(offset) <= 1 and step > newest
        assert world.consume(person, world.code(steps=offset)) is wanted
        newest = step if wanted else newest
        world.do(failed_attempts.forget, person, failed_attempts.MFA_CODE)


def test_after_five_wrong_codes_the_right_one_waits_a_quarter_of_an_hour(world, person):
    world.app(person)
    for _ in range(4):
        assert not world.consume(person, world.wrong())
    assert world.do(factors.seconds_locked, person, world.now) == 0
    assert not world.consume(person, world.wrong())
    assert world.do(factors.seconds_locked, person, world.now) == 15 * 60
    assert not world.consume(person, world.code())
    world.later(minutes=14, seconds=59)
    assert world.do(factors.seconds_locked, person, world.now) == 1
    assert not world.consume(person, world.code())
    world.later(seconds=1)
    assert world.do(factors.seconds_locked, person, world.now) == 0
    assert world.consume(person, world.code())


def test_a_right_code_forgets_the_wrong_ones(world, person):
    world.app(person)
    for _ in range(3):
        for _ in range(4):
            assert not world.consume(person, world.wrong())
        assert world.consume(person, world.code())
        world.later(seconds=30)
    assert world.rows(failed_attempt) == []


def test_wrong_codes_count_once_each_however_many_apps_there_are(world, person):
    for number in range(4):
        world.app(person, bytes([number]) * 20, f"app {number}")
    for _ in range(4):
        assert not world.consume(person, world.wrong())
    assert world.consume(person, world.code(bytes(20)))


def test_a_code_of_one_app_does_not_count_against_the_other_one(world):
    ann = world.user()
    world.app(ann)
    world.app(ann, SEED[::-1], "tablet")
    for _ in range(6):
        world.later(seconds=30)
        assert world.consume(ann, world.code(SEED[::-1]))
    with world.account.store.read() as tx:
        assert tx.execute(select(failed_attempt)).all() == []


# --- virtual MFA devices of users and roots


def spend_by_api(world, person, serial, code):
    user_id = None if person == ROOT else iam_subject(person)
    return world.do(virtual_mfa.consume_code, user_id, ACCOUNT, serial, code, world.now, world.account.vault)


@pytest.mark.parametrize("who", ["ann", "root"])
def test_the_app_of_a_user_is_an_enabled_virtual_mfa_device(world, who):
    person = ROOT if who == "root" else world.user()
    shown_as = ACCOUNT if who == "root" else "ann"
    since = world.now
    made = world.app(person, name="My phone (new)")
    serial = f"arn:aws:iam::{ACCOUNT}:mfa/My-phone-new"
    assert (made.id, made.name) == (serial, "My-phone-new")
    (device,) = world.run(mfa.list_mfa_devices, UserName=shown_as)["MFADevices"]
    assert device == {"UserName": shown_as, "SerialNumber": serial, "EnableDate": since}
    code = world.code()
    assert spend_by_api(world, person, serial, code)
    assert not world.consume(person, code), "the API and the pages share the steps"
    world.later(seconds=30)
    assert world.consume(person, world.code())
    assert not spend_by_api(world, person, serial, world.code())


def test_a_device_that_the_api_enabled_is_a_factor_and_one_that_is_not_enabled_is_none(world):
    ann = world.user()
    made = world.run(mfa.create_virtual_mfa_device, VirtualMFADeviceName="phone", Path="/eng/")["VirtualMFADevice"]
    assert world.of(ann) == ()
    seed = world.account.vault.open(world.rows(mfa_device)[0].seed, made["SerialNumber"])
    codes = {"AuthenticationCode1": world.code(seed, -1), "AuthenticationCode2": world.code(seed)}
    world.run(mfa.enable_mfa_device, UserName="ann", SerialNumber=made["SerialNumber"], **codes)
    (factor,) = world.of(ann)
    assert (factor.id, factor.name, factor.last_used) == (made["SerialNumber"], "phone", None)
    world.later(seconds=30)
    assert world.consume(ann, world.code(seed))
    world.run(mfa.deactivate_mfa_device, UserName="ann", SerialNumber=made["SerialNumber"])
    world.later(seconds=30)
    assert world.of(ann) == ()
    assert not world.consume(ann, world.code(seed))


def test_a_name_that_is_taken_gets_a_number_whatever_its_case(world):
    ann, bob = world.user(), world.user("bob")
    names = [world.app(*one).name for one in ((ann, SEED, "Phone"), (bob, SEED, "phone"), (ROOT, SEED, "PHONE"))]
    assert names == ["Phone", "phone-2", "PHONE-3"]
    assert world.app(ann, SEED[::-1], "***").name == "app"


def test_wrong_codes_of_api_calls_lock_the_device_on_the_pages_too(world):
    ann = world.user()
    serial = world.app(ann).id
    for _ in range(5):
        assert not spend_by_api(world, ann, serial, world.wrong())
    assert world.do(factors.seconds_locked, ann, world.now) == 15 * 60
    assert not world.consume(ann, world.code())
    world.app(ann, SEED[::-1], "tablet")
    assert world.do(factors.seconds_locked, ann, world.now) == 0, "another device is still there"
    assert world.consume(ann, world.code(SEED[::-1]))


def test_a_user_who_is_gone_gets_no_factor(world):
    gone = iam_person_id(ACCOUNT, "AIDAGONE")
    for add in (world.app, world.passkey):
        with pytest.raises(NoSuchEntity):
            add(gone)
    assert world.of(gone) == ()
    assert not world.consume(gone, world.code())


# --- quotas and names


def test_a_person_has_so_many_factors_of_all_kinds(world, person):
    limits = Limits(mfa_devices_per_user=2)
    world.app(person, limits=limits)
    world.passkey(person, limits=limits)
    for add in (world.app, world.passkey):
        with pytest.raises(LimitExceeded, match="Cannot exceed quota for MFADevicesPerUser: 2"):
            add(person, limits=limits)


def test_passkeys_count_when_the_api_enables_a_device(world):
    ann = world.user()
    world.passkey(ann)
    world.account = world.account.allowing(mfa_devices_per_user=1)
    made = world.run(mfa.create_virtual_mfa_device, VirtualMFADeviceName="phone")["VirtualMFADevice"]
    codes = {"AuthenticationCode1": "000000", "AuthenticationCode2": "000000"}
    with pytest.raises(LimitExceeded):
        world.run(mfa.enable_mfa_device, UserName="ann", SerialNumber=made["SerialNumber"], **codes)


def test_the_account_has_as_many_devices_as_its_quota_of_users(world):
    ann = world.user()
    world.app(ann, limits=Limits(users_per_account=1))
    with pytest.raises(LimitExceeded, match="MFADevicesPerAccount"):
        world.app(ROOT, limits=Limits(users_per_account=1))
    assert world.app(PAT, limits=Limits(users_per_account=1)) is not None


@pytest.mark.parametrize("name", ["", "  ", "x" * 129])
def test_a_name_has_between_1_and_128_characters(world, person, name):
    with pytest.raises(ValidationError):
        world.app(person, name=name)


# --- passkeys


def test_a_passkey_is_kept_and_opened(world, person):
    made = world.passkey(person, sign_count=7)
    assert (made.person, made.kind, made.name, made.last_used) == (person, "passkey", "key", None)
    assert world.of(person) == (made,)
    (key,) = world.do(factors.passkeys_of, person, world.account.vault)
    assert (key.id, key.credential_id, key.public_key, key.sign_count) == (made.id, b"credential", b"cose", 7)
    assert world.do(factors.passkeys_of, "ldap-provider/corp|other", world.account.vault) == ()


@pytest.mark.parametrize("other", [PAT, "ldap-provider/corp|other"])
def test_a_passkey_belongs_to_one_person(any_setup, other):
    any_setup.passkey(PAT)
    with pytest.raises(EntityAlreadyExists):
        any_setup.passkey(other)
    assert len(any_setup.rows(second_factor)) == 1


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=10))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_counter_of_a_passkey_grows_unless_it_stays_at_nought(account, counts):
    world = world_of(account)
    made = world.passkey(PAT, secrets.token_bytes(16), limits=Limits(mfa_devices_per_user=1000))
    kept = 0
    for count in counts:
        wanted = count > kept or count == kept == 0
        assert world.do(factors.record_passkey_use, made.id, count, world.now) is wanted
        kept = count if wanted else kept


def test_of_two_connections_at_once_one_uses_a_state_of_the_counter(any_setup):
    made, now = any_setup.passkey(PAT), any_setup.now
    with at_once(any_setup, [lambda tx: factors.record_passkey_use(tx, made.id, 1, now)] * 2) as answers:
        assert sorted(answers) == [False, True]
    (used,) = any_setup.of(PAT)
    assert used.last_used == int(now.timestamp() * 1000)


def test_a_passkey_that_is_not_there_is_not_used(world):
    app = world.app(PAT)
    for factor_id in (app.id, "none"):
        assert not world.do(factors.record_passkey_use, factor_id, 0, world.now)


# --- passkeys in the IAM API


def serial_of(factor, user_name="ann"):
    holder = f"user/{user_name}" if user_name else "root-account-id"
    return f"arn:aws:iam::{ACCOUNT}:u2f/{holder}/{factor.id}"


@pytest.mark.parametrize("who", ["ann", ""])
def test_the_api_shows_passkeys_as_security_keys(world, who):
    person = world.user() if who else ROOT
    key = world.passkey(person)
    app = world.app(person)
    shown = {"UserName": who or ACCOUNT, "SerialNumber": serial_of(key, who), "EnableDate": world.account.now}
    shown["EnableDate"] -= timedelta(seconds=30)
    listed = world.run(mfa.list_mfa_devices, UserName=who or ACCOUNT)
    assert [one["SerialNumber"] for one in listed["MFADevices"]] == [app.id, serial_of(key, who)]
    assert listed["MFADevices"][1] == shown
    assert world.run(mfa.get_mfa_device, SerialNumber=serial_of(key, who)) == shown
    assert world.run(mfa.get_mfa_device, SerialNumber=serial_of(key, who), UserName=who or ACCOUNT) == shown
    assert [one["SerialNumber"] for one in world.run(mfa.list_virtual_mfa_devices)["VirtualMFADevices"]] == [app.id]


def test_devices_and_passkeys_come_in_pages(world):
    ann = world.user()
    wanted = [world.app(ann).id, *sorted(serial_of(world.passkey(ann, bytes([n]))) for n in range(3))]
    seen, p = [], {"UserName": "ann", "MaxItems": 1}
    for _ in range(5):
        answer = world.run(mfa.list_mfa_devices, **p)
        seen += [one["SerialNumber"] for one in answer["MFADevices"]]
        if not answer["IsTruncated"]:
            break
        p["Marker"] = answer["Marker"]
    assert seen == wanted


def test_the_api_removes_a_passkey_of_its_owner_alone(world):
    ann = world.user()
    world.user("bob")
    key = world.passkey(ann)
    for name in ("bob", ACCOUNT):
        with pytest.raises(NoSuchEntity, match=r"MFA Device invalid for user\."):
            world.run(mfa.deactivate_mfa_device, UserName=name, SerialNumber=serial_of(key))
        with pytest.raises(NoSuchEntity):
            world.run(mfa.get_mfa_device, UserName=name, SerialNumber=serial_of(key))
    for serial in (serial_of(key, "bob"), serial_of(key, ""), serial_of(key).replace(ACCOUNT, "999999999999"), key.id):
        with pytest.raises(NoSuchEntity):
            world.run(mfa.deactivate_mfa_device, UserName="ann", SerialNumber=serial)
    world.run(mfa.deactivate_mfa_device, UserName="ann", SerialNumber=serial_of(key))
    assert world.of(ann) == ()


def test_what_is_asked_about_a_passkey_names_its_user(world):
    key, roots = world.passkey(world.user()), world.passkey(ROOT, b"root's")
    ask = world.account.ask
    assert ask(mfa.on_owner_of_device, SerialNumber=serial_of(key)).resource == f"arn:aws:iam::{ACCOUNT}:user/ann"
    assert ask(mfa.on_owner_of_device, SerialNumber=serial_of(roots, "")).resource == f"arn:aws:iam::{ACCOUNT}:root"


def test_a_passkey_goes_with_its_user_to_another_name(world):
    key = world.passkey(world.user())
    world.run(update_user, UserName="ann", NewUserName="anna")
    (shown,) = world.run(mfa.list_mfa_devices, UserName="anna")["MFADevices"]
    assert shown["SerialNumber"] == serial_of(key, "anna")


def report_lines(world):
    world.run(reports.generate_credential_report)
    text = world.run(reports.get_credential_report)["Content"].decode()
    columns, *lines = [line.split(",") for line in text.splitlines()]
    return [dict(zip(columns, line, strict=True)) for line in lines]


def test_passkeys_count_in_the_report_and_in_the_summary(any_setup):
    ann = any_setup.user()
    any_setup.user("bob")
    any_setup.passkey(PAT, b"of the directory")
    any_setup.passkey(ann)
    lines = {line["user"]: line["mfa_active"] for line in report_lines(any_setup)}
    assert lines == {"<root_account>": "false", "ann": "true", "bob": "false"}
    summary = any_setup.run(account_operations.get_account_summary)["SummaryMap"]
    assert [summary[name] for name in ("MFADevices", "MFADevicesInUse", "AccountMFAEnabled")] == [1, 1, 0]
    any_setup.passkey(ROOT, b"of root")
    any_setup.later(hours=4)
    assert report_lines(any_setup)[0]["mfa_active"] == "true"
    summary = any_setup.run(account_operations.get_account_summary)["SummaryMap"]
    assert [summary[name] for name in ("MFADevices", "MFADevicesInUse", "AccountMFAEnabled")] == [2, 2, 1]


# --- recovery codes


def test_ten_codes_are_made_that_nobody_misreads_and_the_database_holds_none(world, person):
    codes = world.codes(person)
    assert len(set(codes)) == 10
    signs = set("".join(codes).replace("-", ""))
    assert signs <= set("abcdefghijkmnpqrstuvwxyz23456789")
    assert {len(code) for code in codes} == {19}
    kept = {value for row in world.rows(recovery_code) for value in row}
    assert not kept & {*codes, *(code.replace("-", "") for code in codes)}
    assert world.do(factors.recovery_codes_left, person) == 10


def test_every_sign_of_a_code_carries_five_bits_of_chance(world):
    every = [base64.b32decode("ABCDEFGHIJKLMNOP"), base64.b32decode("QRSTUVWXYZ234567")]
    chance = itertools.chain(every, (number.to_bytes(10) for number in itertools.count()))
    made = world.do(factors.replace_recovery_codes, PAT, world.now, lambda _count: next(chance))
    first, second = (set(code.replace("-", "")) for code in made[:2])
    assert len(first | second) == 32


def test_a_recovery_code_counts_once_and_for_its_person(world, person):
    first, second, *_rest = world.codes(person)
    assert not world.recover("ldap-provider/corp|other", first)
    assert world.recover(person, first)
    assert not world.recover(person, first)
    assert world.recover(person, f" {second.upper().replace('-', ' ')} ")
    assert world.do(factors.recovery_codes_left, person) == 8


def test_what_looks_like_an_i_is_read_as_one(world):
    code = next(
        code for code in itertools.chain.from_iterable(world.codes(PAT) for _ in itertools.count()) if "i" in code
    )
    assert world.recover(PAT, code.replace("i", "l").replace("l", "1", 1).upper())


def test_of_two_connections_at_once_one_spends_the_recovery_code(any_setup):
    code, now = any_setup.codes(PAT)[0], any_setup.now
    with at_once(any_setup, [lambda tx: factors.consume_recovery_code(tx, PAT, code, now)] * 2) as answers:
        assert sorted(answers) == [False, True]


def test_new_codes_replace_the_earlier_ones(world, person):
    old = world.codes(person)
    new = world.codes(person)
    assert not any(world.recover(person, code) for code in old[:4])
    assert world.recover(person, new[0])


def test_wrong_codes_of_both_kinds_count_together(world, person):
    world.app(person)
    code = world.codes(person)[0]
    for _ in range(2):
        assert not world.consume(person, world.wrong())
    for wrong in ("", "x", "0" * 10_000):
        assert not world.recover(person, wrong)
    assert world.do(factors.seconds_locked, person, world.now) == 15 * 60
    assert not world.recover(person, code)
    assert not world.consume(person, world.code())
    world.later(minutes=15)
    assert world.recover(person, code)
    assert world.rows(failed_attempt) == []


# --- removing


def test_recovery_codes_end_with_the_last_factor(world, person):
    app, key = world.app(person), world.passkey(person)
    world.codes(person)
    assert world.do(factors.remove_factor, person, app.id)
    assert world.do(factors.recovery_codes_left, person) == 10
    assert world.do(factors.remove_factor, person, key.id)
    assert world.do(factors.recovery_codes_left, person) == 0
    assert world.of(person) == ()
    assert (world.rows(mfa_device), world.rows(second_factor)) == ([], [])


@pytest.mark.parametrize("kind", ["app", "passkey"])
def test_recovery_codes_end_when_the_api_takes_the_last_factor(world, kind):
    ann = world.user()
    made = world.app(ann) if kind == "app" else world.passkey(ann)
    world.codes(ann)
    serial = made.id if kind == "app" else serial_of(made)
    world.run(mfa.deactivate_mfa_device, UserName="ann", SerialNumber=serial)
    assert world.do(factors.recovery_codes_left, ann) == 0


def test_nobody_removes_a_factor_of_somebody_else(world):
    ann = world.user()
    made = [world.app(ann), world.passkey(ann), world.app(ROOT, SEED[::-1], "root's"), world.app(PAT)]
    stranger = world.user("bob")
    for one in made:
        assert not world.do(factors.remove_factor, stranger, one.id)
    assert not world.do(factors.remove_factor, PAT, made[0].id)
    assert not world.do(factors.remove_factor, ROOT, made[0].id)
    assert not world.do(factors.remove_factor, ann, made[2].id)
    assert not world.do(factors.remove_factor, ann, "none")


def test_a_device_that_is_removed_leaves_neither_tags_nor_failures(world):
    ann = world.user()
    serial = world.app(ann).id
    world.run(mfa.tag_mfa_device, SerialNumber=serial, Tags=[{"Key": "a", "Value": "b"}])
    assert not spend_by_api(world, ann, serial, world.wrong())
    assert world.do(factors.remove_factor, ann, serial)
    assert (world.rows(tag), world.rows(failed_attempt)) == ([], [])


TABLES = (second_factor, mfa_device, recovery_code, role_mark, failed_attempt)


def test_of_a_person_who_is_forgotten_nothing_is_left_and_of_others_all(world, person):
    for who, seed in ((person, SEED), ("saml-provider/idp|x", SEED[::-1])):
        world.app(who, seed)
        world.passkey(who, seed)
        world.codes(who)
        world.do(pinned_roles.set_pinned, who, "AROAX", pinned=True)
        assert not world.consume(who, world.wrong())
    for factor in world.do(factors.factors_of, person):
        world.do(factors.remove_factor, person, factor.id)
    world.do(delete_person_data, person)
    left = [row for table in TABLES for row in world.rows(table)]
    assert len(left) == 2 + 10 + 1 + 1
    assert not any(person in row for row in left)


def test_all_factors_are_those_of_everybody_person_by_person(world):
    ann = world.user()
    made = [world.app(ROOT), world.app(ann), world.passkey(ann, b"1"), world.passkey(PAT, b"2"), world.app(PAT)]
    world.run(mfa.create_virtual_mfa_device, VirtualMFADeviceName="unassigned")
    found = world.do(factors.all_factors)
    assert sorted(one.id for one in found) == sorted(one.id for one in made)
    assert [one.person for one in found] == sorted(one.person for one in made)


def test_a_reset_takes_every_factor_and_code_and_leaves_what_was_pinned(world, person):
    other = PAT if person == ROOT else ROOT
    for who in (person, other):
        world.app(who)
        world.codes(who)
    world.passkey(person)
    world.do(pinned_roles.set_pinned, person, "AROAX", pinned=True)
    for _ in range(5):
        world.consume(person, world.wrong())
    held = world.of(person)
    assert world.do(factors.reset_factors, person) == held
    assert (world.of(person), world.do(factors.recovery_codes_left, person)) == ((), 0)
    assert world.do(factors.seconds_locked, person, world.now) == 0
    assert world.do(pinned_roles.role_usage_of, person)["AROAX"].pinned
    assert len(world.of(other)) == 1
    assert world.do(factors.recovery_codes_left, other) == 10
    assert world.do(factors.reset_factors, person) == ()


def test_a_user_with_a_passkey_is_not_deleted_and_one_without_leaves_nothing(world):
    ann = world.user()
    key = world.passkey(ann)
    world.do(pinned_roles.set_pinned, ann, "AROAX", pinned=True)
    with pytest.raises(DeleteConflict, match=r"Cannot delete entity, must delete MFA device first\."):
        world.run(delete_user, UserName="ann")
    assert world.of(ann) == (key,)
    world.run(mfa.deactivate_mfa_device, UserName="ann", SerialNumber=serial_of(key))
    world.codes(ann)
    assert not world.recover(ann, "wrong")
    world.run(delete_user, UserName="ann")
    assert [row for table in TABLES for row in world.rows(table)] == []


def test_a_user_with_a_password_alone_keeps_its_marks_when_deleting_it_is_refused(world):
    ann = world.user()
    world.run(passwords.create_login_profile, UserName="ann", Password="Quill-of-41-herons")
    world.do(pinned_roles.set_pinned, ann, "AROAX", pinned=True)
    with pytest.raises(DeleteConflict):
        world.run(delete_user, UserName="ann")
    assert len(world.rows(role_mark)) == 1
