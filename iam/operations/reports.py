"""Reports about an account: GetAccountAuthorizationDetails and the credential report.

Source: IAM API Reference, GetAccountAuthorizationDetails; IAM User Guide, "Generate credential reports".
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, select, update

from iam.arn import iam_arn, root_arn
from iam.call import Call, Params, Result
from iam.clock import HOUR, from_milliseconds, iso8601_exact, to_milliseconds
from iam.credentials.password_policy import policy_of
from iam.errors import CredentialReportExpired, CredentialReportNotPresent
from iam.operations.credentials import security_keys
from iam.operations.instance_profiles import profile_shapes
from iam.operations.named_entities import GROUP, ROLE, USER, boundary_and_tags, entity_members, paginate_list
from iam.operations.policies.managed import get_policy, get_policy_version, list_policy_versions
from iam.operations.roles import role_shapes
from iam.policy.managed import load as aws_managed
from iam.store.schema import (
    Entity,
    access_key,
    account,
    attachment,
    group,
    inline_policy,
    instance_profile,
    login_profile,
    membership,
    mfa_device,
    policy,
    role,
    root_login,
    user,
)

# --- GetAccountAuthorizationDetails -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Item:
    """An entity to list, before its details are read; ``key`` is its sort key among all."""

    filter: str
    key: str
    row: Any  # a row, or the ARN of an AWS managed policy


def get_account_authorization_details(call: Call, p: Params) -> Result:
    """Return a page of users, groups, roles and policies, in this order, with all their policies."""
    filters = p.get("Filter") or list(_SECTIONS)
    items = [item for name, section in _SECTIONS.items() if name in filters for item in section.items(call)]
    page, paging = paginate_list(items, p, lambda item: item.key)
    details: Result = {section.member: [] for section in _SECTIONS.values()}
    for item in page:
        section = _SECTIONS[item.filter]
        details[section.member].append(section.detail(call, item.row))
    return {**details, **paging}


def _rows_of(table: Table, name: str, place: int) -> Callable[[Call], Iterable[_Item]]:
    def items(call: Call) -> Iterable[_Item]:
        for row in call.tx.execute(select(table).where(table.c.account_id == call.account_id)):
            yield _Item(name, f"{place}{row.name_key}", row)

    return items


def _aws_policies_in_use(call: Call) -> Iterable[_Item]:
    """Return the AWS managed policies that the account uses, attached or as permissions boundary."""
    arns = set(call.tx.scalars(select(attachment.c.policy_arn).where(attachment.c.account_id == call.account_id)))
    for table in (user, role):
        arns |= set(call.tx.scalars(select(table.c.boundary).where(table.c.account_id == call.account_id)))
    return [_Item("AWSManagedPolicy", f"4{arn}", arn) for arn in aws_managed() if arn in arns]


def _user_detail(call: Call, row: Entity) -> Result:
    groups = select(group.c.name).join(membership).where(membership.c.user_id == row.id).order_by(group.c.name_key)
    return {
        **entity_members(USER, row),
        "UserPolicyList": _inline(call, row.id),
        "GroupList": list(call.tx.scalars(groups)),
        "AttachedManagedPolicies": _attached(call, row.id),
        **boundary_and_tags(call, row),
    }


def _group_detail(call: Call, row: Entity) -> Result:
    return {
        **entity_members(GROUP, row),
        "GroupPolicyList": _inline(call, row.id),
        "AttachedManagedPolicies": _attached(call, row.id),
    }


def _role_detail(call: Call, row: Entity) -> Result:
    profiles = call.tx.execute(select(instance_profile).where(instance_profile.c.role_id == row.id)).all()
    return {
        **entity_members(ROLE, row),
        "AssumeRolePolicyDocument": role_shapes(call, [row])[0]["AssumeRolePolicyDocument"],
        "InstanceProfileList": profile_shapes(call, profiles),
        "RolePolicyList": _inline(call, row.id),
        "AttachedManagedPolicies": _attached(call, row.id),
        "RoleLastUsed": {},
        **boundary_and_tags(call, row),
    }


def _policy_detail(call: Call, row: Entity | str) -> Result:
    arn: str = row if isinstance(row, str) else row.arn
    shape = get_policy(call, {"PolicyArn": arn})["Policy"]
    versions = list_policy_versions(call, {"PolicyArn": arn})["Versions"]
    ids = [version["VersionId"] for version in versions]
    full = [get_policy_version(call, {"PolicyArn": arn, "VersionId": version_id}) for version_id in ids]
    detail = {name: value for name, value in shape.items() if name != "Tags"}
    return {**detail, "PolicyVersionList": [response["PolicyVersion"] for response in full]}


def _inline(call: Call, entity_id: str) -> list[Result]:
    query = select(inline_policy).where(inline_policy.c.entity_id == entity_id).order_by(inline_policy.c.name)
    return [{"PolicyName": row.name, "PolicyDocument": row.document} for row in call.tx.execute(query)]


def _attached(call: Call, entity_id: str) -> list[Result]:
    query = select(attachment.c.policy_arn).where(attachment.c.entity_id == entity_id)
    arns = sorted(call.tx.scalars(query))
    return [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in arns]


@dataclass(frozen=True, slots=True)
class _Section:
    """A value of Filter: the member of the response, and the functions that list its rows and read the details."""

    member: str
    items: Callable[[Call], Iterable[_Item]]
    detail: Callable[[Call, Any], Result]


_SECTIONS: Mapping[str, _Section] = {
    "User": _Section("UserDetailList", _rows_of(user, "User", 0), _user_detail),
    "Group": _Section("GroupDetailList", _rows_of(group, "Group", 1), _group_detail),
    "Role": _Section("RoleDetailList", _rows_of(role, "Role", 2), _role_detail),
    "LocalManagedPolicy": _Section("Policies", _rows_of(policy, "LocalManagedPolicy", 3), _policy_detail),
    "AWSManagedPolicy": _Section("Policies", _aws_policies_in_use, _policy_detail),
}


# --- the credential report ----------------------------------------------------------------------------------------

_REPORT_LIFETIME = 4 * HOUR  # milliseconds
_COLUMNS = (
    "user",
    "arn",
    "user_creation_time",
    "password_enabled",
    "password_last_used",
    "password_last_changed",
    "password_next_rotation",
    "mfa_active",
    *(
        f"access_key_{number}_{column}"
        for number in (1, 2)
        for column in ("active", "last_rotated", "last_used_date", "last_used_region", "last_used_service")
    ),
    "cert_1_active",
    "cert_1_last_rotated",
    "cert_2_active",
    "cert_2_last_rotated",
)
_KEYS = 2  # access keys per user in the report
_NONE, _NEVER, _UNSUPPORTED = "N/A", "no_information", "not_supported"
_NO_KEY = ("false", _NONE, _NONE, _NONE, _NONE)
_NO_CERTIFICATES = ("false", _NONE, "false", _NONE)


def generate_credential_report(call: Call, _p: Params) -> Result:
    """Generate the report, unless there is one from the last four hours."""
    if _is_fresh(call):
        return {"State": "COMPLETE"}
    text, at = _report(call), to_milliseconds(call.now)
    values = {"credential_report": text, "credential_report_at": at}
    call.tx.execute(update(account).where(account.c.id == call.account_id).values(values))
    return {"State": "STARTED", "Description": "No report exists. Starting a new report generation task"}


def get_credential_report(call: Call, _p: Params) -> Result:
    """Return the report; raise CredentialReportNotPresent, and CredentialReportExpired after four hours."""
    row = _account_row(call)
    if row.credential_report_at is None:
        raise CredentialReportNotPresent("No report is present. Call GenerateCredentialReport first.")
    if not _is_fresh(call):
        raise CredentialReportExpired("The report has expired. Call GenerateCredentialReport to generate a new one.")
    return {
        "Content": row.credential_report.encode(),
        "ReportFormat": "text/csv",
        "GeneratedTime": from_milliseconds(row.credential_report_at),
    }


def _account_row(call: Call) -> Entity:
    return call.tx.execute(select(account).where(account.c.id == call.account_id)).one()


def _is_fresh(call: Call) -> bool:
    at = _account_row(call).credential_report_at
    return at is not None and to_milliseconds(call.now) - at < _REPORT_LIFETIME


def _report(call: Call) -> str:
    users = call.tx.execute(select(user).where(user.c.account_id == call.account_id).order_by(user.c.name_key)).all()
    keys, devices = _keys_by_owner(call), _owners_of_devices(call)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_COLUMNS)
    lines.writerow(_root_line(call, keys.get(None, []), mfa=None in devices))
    passwords = _passwords(call)
    for row in users:
        line = [row.name, iam_arn(call.account_id, "user", row.name, row.path), _iso(row.created)]
        line += passwords.get(row.id, ("false", _NONE, _NONE, _NONE))
        lines.writerow([*line, _flag(row.id in devices), *_key_columns(keys.get(row.id, [])), *_NO_CERTIFICATES])
    return text.getvalue().removesuffix("\n")


def _root_line(call: Call, keys: Sequence[Entity], *, mfa: bool) -> list[str]:
    created = _iso(_account_row(call).created)
    line = ["<root_account>", root_arn(call.account_id), created, *_root_password(call), _flag(mfa)]
    return [*line, *_key_columns(keys), *_NO_CERTIFICATES]


def _root_password(call: Call) -> tuple[str, str, str, str]:
    """Return the password columns of root; as in AWS, its last change and next rotation are ``not_supported``."""
    row = call.tx.execute(select(root_login.c.last_used).where(root_login.c.account_id == call.account_id)).first()
    if row is None:
        return "false", _NONE, _UNSUPPORTED, _UNSUPPORTED
    return "true", _NEVER if row.last_used is None else _iso(row.last_used), _UNSUPPORTED, _UNSUPPORTED


def _passwords(call: Call) -> dict[str, tuple[str, str, str, str]]:
    """Return the password columns of each user with a password."""
    password_policy = policy_of(call.tx, call.account_id)
    query = select(login_profile, user.c.password_last_used).join(user).where(user.c.account_id == call.account_id)
    columns = {}
    for row in call.tx.execute(query):
        expires = password_policy.expires(row.changed)
        used = _iso(row.password_last_used) if row.password_last_used is not None else _NEVER
        columns[row.user_id] = ("true", used, _iso(row.changed), _NONE if expires is None else _iso(expires))
    return columns


def _keys_by_owner(call: Call) -> dict[str | None, list[Entity]]:
    columns = [column for column in access_key.c if column.key != "secret"]
    query = select(*columns).where(access_key.c.account_id == call.account_id)
    keys: dict[str | None, list[Entity]] = {}
    for row in call.tx.execute(query.order_by(access_key.c.created, access_key.c.id)):
        keys.setdefault(row.user_id, []).append(row)
    return keys


def _owners_of_devices(call: Call) -> set[str | None]:
    enabled = (mfa_device.c.account_id == call.account_id, mfa_device.c.enabled.is_not(None))
    devices = call.tx.scalars(select(mfa_device.c.user_id).where(*enabled))
    return {*devices, *security_keys.passkey_owner_ids(call.tx, call.account_id)}


def _key_columns(keys: Sequence[Entity]) -> list[str]:
    described = [_key(row) for row in keys[:_KEYS]]
    return [column for key in (*described, _NO_KEY, _NO_KEY)[:_KEYS] for column in key]


def _key(row: Entity) -> tuple[str, ...]:
    used = _NONE if row.last_used is None else _iso(row.last_used)
    return _flag(row.active), _iso(row.created), used, row.last_used_region or _NONE, row.last_used_service or _NONE


def _flag(value: object) -> str:
    return "true" if value else "false"


def _iso(stored: int) -> str:
    return iso8601_exact(from_milliseconds(stored))
