import base64
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import select
from support.iam_account import ACCOUNT, IamAccount, iam_account, role_session, root
from support.threads import at_once

from iam.credentials import totp, virtual_mfa
from iam.errors import (
    DeleteConflict,
    EntityAlreadyExists,
    InvalidAuthenticationCode,
    InvalidInput,
    LimitExceeded,
    NoSuchEntity,
    ValidationError,
)
from iam.operations.credentials import mfa
from iam.store.schema import mfa_device

SERIAL = f"arn:aws:iam::{ACCOUNT}:mfa/phone"
NOT_VALID = "Authentication code for device is not valid."


@pytest.fixture
def iam(tmp_path):
    return iam_account(tmp_path)


def create(iam: IamAccount, name: str = "phone", **p) -> bytes:
    made = iam.run(mfa.create_virtual_mfa_device, VirtualMFADeviceName=name, **p)
    return base64.b32decode(made["VirtualMFADevice"]["Base32StringSeed"])


def pair(seed: bytes, now, second: int = 0) -> dict[str, str]:
    step = totp.step_at(now) + second
    return {
        "AuthenticationCode1": totp.code_at(seed, step - 1),
        "AuthenticationCode2": totp.code_at(seed, step),
    }


def enable(iam: IamAccount, seed: bytes, name: str, serial: str = SERIAL, principal=None) -> None:
    iam.run(mfa.enable_mfa_device, principal, UserName=name, SerialNumber=serial, **pair(seed, iam.now))


def consume(iam: IamAccount, user_id, code: str, serial: str = SERIAL) -> bool:
    with iam.writing() as tx:
        return virtual_mfa.consume_code(tx, user_id, ACCOUNT, serial, code, iam.now, iam.vault)


def code(iam: IamAccount, seed: bytes, offset: int = 0) -> str:
    return totp.code_at(seed, totp.step_at(iam.now) + offset)


def wrong(iam: IamAccount, seed: bytes) -> str:
    near = {code(iam, seed, offset) for offset in range(-3, 4)}
    return next(guess for guess in map("{:06}".format, range(10)) if guess not in near)


def test_a_new_device_has_a_seed_a_picture_and_tags_and_the_database_holds_no_seed_in_clear(iam):
    tags = [{"Key": "Owner", "Value": "ann"}]
    made = iam.run(mfa.create_virtual_mfa_device, VirtualMFADeviceName="phone", Path="/eng/", Tags=tags)
    device = made["VirtualMFADevice"]
    assert device["SerialNumber"] == f"arn:aws:iam::{ACCOUNT}:mfa/eng/phone"
    assert device["Tags"] == tags
    assert device["QRCodePNG"].startswith(b"\x89PNG\r\n\x1a\n")
    seed = base64.b32decode(device["Base32StringSeed"])
    assert len(seed) == 20
    with iam.reading() as tx:
        stored = tx.execute(select(mfa_device)).one()
    assert seed not in stored.seed
    assert iam.vault.open(stored.seed, device["SerialNumber"]) == seed


def test_the_picture_encodes_the_otpauth_address():
    seen = mfa.otpauth_uri("phone", "example-corp", b"JBSWY3DPEHPK3PXP")
    assert seen.startswith("otpauth://totp/Fedgate%3Aphone%40example-corp?")
    assert parse_qs(urlsplit(seen).query) == {"secret": ["JBSWY3DPEHPK3PXP"], "issuer": ["Fedgate"]}


@pytest.mark.parametrize("name", ["phone", "PHONE"])
def test_a_name_is_taken_once_whatever_its_case(iam, name):
    create(iam)
    with pytest.raises(EntityAlreadyExists, match=r"MFADevice entity at the same path and name already exists\."):
        create(iam, name)


def test_the_account_has_as_many_devices_as_its_quota_of_users(iam):
    iam.limit(users_per_account=1)
    create(iam)
    with pytest.raises(LimitExceeded):
        create(iam, "second")


def test_two_codes_in_a_row_enable_a_device(iam):
    ann = iam.user("ann")
    enable(iam, create(iam), "ANN")
    shown = {"UserName": "ann", "SerialNumber": SERIAL, "EnableDate": iam.now}
    assert iam.run(mfa.list_mfa_devices, UserName="ann") == {"MFADevices": [shown], "IsTruncated": False}
    assert iam.run(mfa.list_mfa_devices, ann)["MFADevices"] == [shown]
    assert iam.run(mfa.get_mfa_device, SerialNumber=SERIAL) == shown
    assert iam.run(mfa.get_mfa_device, SerialNumber=SERIAL, UserName="ann") == shown


@pytest.mark.parametrize("kind", ["wrong", "same", "swapped", "old", "far"])
def test_codes_that_do_not_follow_each_other_enable_nothing(iam, kind):
    iam.user("ann")
    seed = create(iam)
    good = pair(seed, iam.now)
    one, two = good["AuthenticationCode1"], good["AuthenticationCode2"]
    far = pair(seed, iam.now, 5)
    codes = {
        "wrong": (wrong(iam, seed), two),
        "same": (two, two),
        "swapped": (two, one),
        "old": (code(iam, seed, -4), code(iam, seed, -3)),
        "far": (far["AuthenticationCode1"], far["AuthenticationCode2"]),
    }[kind]
    p = {"AuthenticationCode1": codes[0], "AuthenticationCode2": codes[1]}
    with pytest.raises(InvalidAuthenticationCode, match=NOT_VALID):
        iam.run(mfa.enable_mfa_device, UserName="ann", SerialNumber=SERIAL, **p)
    assert iam.run(mfa.list_mfa_devices, UserName="ann")["MFADevices"] == []


def test_a_device_is_enabled_for_one_user_and_a_user_has_so_many_devices(iam):
    iam.limit(mfa_devices_per_user=1)
    for name in ("ann", "bob"):
        iam.user(name)
    seed = create(iam)
    enable(iam, seed, "ann")
    iam.later(minutes=5)
    with pytest.raises(EntityAlreadyExists):
        enable(iam, seed, "bob")
    second = create(iam, "second")
    with pytest.raises(LimitExceeded, match="Cannot exceed quota for MFADevicesPerUser: 1"):
        enable(iam, second, "ann", f"{SERIAL.removesuffix('phone')}second")


def test_unknown_users_and_devices_are_told_apart(iam):
    seed = create(iam)
    with pytest.raises(NoSuchEntity, match=r"The user with name nobody cannot be found\."):
        enable(iam, seed, "nobody")
    iam.user("ann")
    with pytest.raises(NoSuchEntity, match="does not exist"):
        enable(iam, seed, "ann", SERIAL + "x")
    with pytest.raises(NoSuchEntity, match=r"MFA Device invalid for user\."):
        iam.run(mfa.deactivate_mfa_device, UserName="ann", SerialNumber=SERIAL)


def test_a_device_of_another_account_does_not_exist(iam):
    seed = create(iam)
    stranger = iam.another("999999999999")
    for operation in (mfa.delete_virtual_mfa_device, mfa.get_mfa_device, mfa.list_mfa_device_tags):
        with pytest.raises(NoSuchEntity):
            iam.run(operation, stranger, SerialNumber=SERIAL)
    with pytest.raises(NoSuchEntity):
        enable(iam, seed, "999999999999", principal=stranger)
    assert iam.run(mfa.list_virtual_mfa_devices, stranger)["VirtualMFADevices"] == []


def test_root_enables_a_device_under_the_account_id_even_where_a_user_bears_it_as_a_name(iam):
    impostor = iam.user(ACCOUNT)
    seed = create(iam)
    enable(iam, seed, ACCOUNT)
    (shown,) = iam.run(mfa.list_mfa_devices)["MFADevices"]
    assert shown == {"UserName": ACCOUNT, "SerialNumber": SERIAL, "EnableDate": iam.now}
    assert iam.run(mfa.list_mfa_devices, impostor)["MFADevices"] == []
    (device,) = iam.run(mfa.list_virtual_mfa_devices)["VirtualMFADevices"]
    assert device["User"]["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"
    iam.later(minutes=1)
    assert not consume(iam, impostor.entity_id, code(iam, seed))
    assert consume(iam, None, code(iam, seed))
    assert iam.required_permissions(mfa.on_owner).resource == f"arn:aws:iam::{ACCOUNT}:root"
    assert iam.required_permissions(mfa.on_owner, impostor).resource == impostor.arn


def test_a_user_cannot_reach_roots_device_by_the_account_id(iam):
    ann = iam.user("ann")
    enable(iam, create(iam), ACCOUNT)
    with pytest.raises(NoSuchEntity):
        iam.run(mfa.deactivate_mfa_device, ann, UserName=ACCOUNT, SerialNumber=SERIAL)


def test_a_role_session_has_no_devices_of_its_own(iam):
    with pytest.raises(ValidationError):
        iam.run(mfa.list_mfa_devices, role_session())


def test_a_list_shows_neither_seeds_nor_tags_and_goes_by_status(iam):
    iam.user("ann")
    create(iam, "spare", Tags=[{"Key": "a", "Value": "b"}])
    enable(iam, create(iam), "ann")

    def listed(**p):
        return iam.run(mfa.list_virtual_mfa_devices, **p)["VirtualMFADevices"]

    assert [one["SerialNumber"] for one in listed()] == [SERIAL, SERIAL.replace("phone", "spare")]
    assert [one["SerialNumber"] for one in listed(AssignmentStatus="Assigned")] == [SERIAL]
    assert listed(AssignmentStatus="Assigned")[0]["User"]["UserName"] == "ann"
    assert listed(AssignmentStatus="Unassigned") == [{"SerialNumber": SERIAL.replace("phone", "spare")}]


def test_a_device_in_use_is_deactivated_before_it_is_deleted(iam):
    ann = iam.user("ann")
    seed = create(iam, Tags=[{"Key": "a", "Value": "b"}])
    enable(iam, seed, "ann")
    with pytest.raises(DeleteConflict, match=r"MFA VirtualDevice in use\. Must deactivate first\."):
        iam.run(mfa.delete_virtual_mfa_device, SerialNumber=SERIAL)
    iam.run(mfa.deactivate_mfa_device, ann, SerialNumber=SERIAL)
    iam.later(minutes=1)
    assert not consume(iam, ann.entity_id, code(iam, seed))
    iam.run(mfa.delete_virtual_mfa_device, SerialNumber=SERIAL)
    create(iam)
    assert iam.run(mfa.list_mfa_device_tags, SerialNumber=SERIAL)["Tags"] == []


def test_codes_spent_before_a_device_was_deactivated_stay_spent(iam):
    iam.user("ann")
    seed = create(iam)
    codes = pair(seed, iam.now)
    iam.run(mfa.enable_mfa_device, UserName="ann", SerialNumber=SERIAL, **codes)
    iam.run(mfa.deactivate_mfa_device, UserName="ann", SerialNumber=SERIAL)
    with pytest.raises(InvalidAuthenticationCode):
        iam.run(mfa.enable_mfa_device, UserName="ann", SerialNumber=SERIAL, **codes)


def test_a_code_is_spent_once(iam):
    ann = iam.user("ann")
    seed = create(iam)
    enable(iam, seed, "ann")
    assert not consume(iam, ann.entity_id, code(iam, seed)), "the second code of EnableMFADevice is spent"
    iam.later(seconds=30)
    assert consume(iam, ann.entity_id, code(iam, seed))
    assert not consume(iam, ann.entity_id, code(iam, seed))
    iam.later(seconds=30)
    assert not consume(iam, ann.entity_id, code(iam, seed, -1)), "an older step, even in the window"
    assert consume(iam, ann.entity_id, code(iam, seed))


def test_of_many_requests_at_once_one_spends_the_code(iam):
    ann = iam.user("ann")
    seed = create(iam)
    enable(iam, seed, "ann")
    iam.later(minutes=1)
    good = code(iam, seed)
    answers = at_once(*[lambda: consume(iam, ann.entity_id, good)] * 4)
    assert sorted(answers) == [False, False, False, True]


def test_another_users_device_proves_nothing(iam):
    iam.user("ann")
    bob = iam.user("bob")
    seed = create(iam)
    enable(iam, seed, "ann")
    iam.later(minutes=1)
    assert not consume(iam, bob.entity_id, code(iam, seed))
    assert not consume(iam, None, code(iam, seed))


def test_after_five_wrong_codes_the_right_one_waits_a_quarter_of_an_hour(iam):
    ann = iam.user("ann")
    seed = create(iam)
    enable(iam, seed, "ann")
    iam.later(minutes=1)
    for _ in range(5):
        assert not consume(iam, ann.entity_id, wrong(iam, seed))
    assert not consume(iam, ann.entity_id, code(iam, seed))
    iam.later(minutes=14, seconds=59)
    assert not consume(iam, ann.entity_id, code(iam, seed))
    iam.later(seconds=1)
    assert consume(iam, ann.entity_id, code(iam, seed))


def test_a_right_code_forgets_the_wrong_ones(iam):
    ann = iam.user("ann")
    seed = create(iam)
    enable(iam, seed, "ann")
    for _ in range(3):
        iam.later(minutes=1)
        for _ in range(4):
            assert not consume(iam, ann.entity_id, wrong(iam, seed))
        assert consume(iam, ann.entity_id, code(iam, seed))


def test_a_resync_learns_how_far_the_clock_is_off(iam):
    ann = iam.user("ann")
    seed = create(iam)
    enable(iam, seed, "ann")
    iam.later(hours=1)
    fast = iam.now + timedelta(minutes=8)
    assert not consume(iam, ann.entity_id, totp.code_at(seed, totp.step_at(fast)))
    with pytest.raises(InvalidAuthenticationCode, match=NOT_VALID):
        iam.run(mfa.resync_mfa_device, UserName="ann", SerialNumber=SERIAL, **pair(seed, iam.now, 50))
    iam.run(mfa.resync_mfa_device, UserName="ann", SerialNumber=SERIAL, **pair(seed, fast))
    assert not consume(iam, ann.entity_id, totp.code_at(seed, totp.step_at(fast))), "spent by the resync"
    iam.later(minutes=2)
    assert consume(iam, ann.entity_id, totp.code_at(seed, totp.step_at(fast + timedelta(minutes=2))))


def test_tags_come_and_go(iam):
    create(iam)
    iam.run(mfa.tag_mfa_device, SerialNumber=SERIAL, Tags=[{"Key": "A", "Value": "1"}, {"Key": "b", "Value": "2"}])
    iam.run(mfa.tag_mfa_device, SerialNumber=SERIAL, Tags=[{"Key": "a", "Value": "3"}])
    assert iam.run(mfa.list_mfa_device_tags, SerialNumber=SERIAL) == {
        "Tags": [{"Key": "a", "Value": "3"}, {"Key": "b", "Value": "2"}],
        "IsTruncated": False,
    }
    iam.run(mfa.untag_mfa_device, SerialNumber=SERIAL, TagKeys=["B"])
    assert iam.run(mfa.list_mfa_device_tags, SerialNumber=SERIAL)["Tags"] == [{"Key": "a", "Value": "3"}]
    for tags in ([{"Key": "x", "Value": "1"}, {"Key": "X", "Value": "2"}], [{"Key": "aws:x", "Value": "1"}]):
        with pytest.raises(InvalidInput):
            iam.run(mfa.tag_mfa_device, SerialNumber=SERIAL, Tags=tags)
    iam.limit(tags_per_entity=1)
    with pytest.raises(LimitExceeded):
        iam.run(mfa.tag_mfa_device, SerialNumber=SERIAL, Tags=[{"Key": "c", "Value": "1"}])


def test_what_is_asked_names_the_device_or_its_user(iam):
    ann = iam.user("ann", Path="/eng/", Tags=[{"Key": "Team", "Value": "x"}])
    tags = [{"Key": "Owner", "Value": "ann"}]
    new = iam.required_permissions(mfa.on_new_device, VirtualMFADeviceName="phone", Path="/p/", Tags=tags)
    assert new.resource == f"arn:aws:iam::{ACCOUNT}:mfa/p/phone"
    assert new.keys == {"aws:requesttag/owner": ("ann",), "aws:tagkeys": ("Owner",)}
    seed = create(iam, Tags=tags)
    device = iam.required_permissions(mfa.on_device, SerialNumber=SERIAL)
    assert (device.resource, device.keys["aws:resourcetag/owner"]) == (SERIAL, ("ann",))
    owner = iam.required_permissions(mfa.on_owner, root(), UserName="ann")
    assert owner.resource == ann.arn == f"arn:aws:iam::{ACCOUNT}:user/eng/ann"
    assert owner.keys["iam:resourcetag/team"] == ("x",)
    enable(iam, seed, "ann")
    bob = iam.user("bob")
    assert iam.required_permissions(mfa.on_owner_of_device, bob, SerialNumber=SERIAL).resource == ann.arn
