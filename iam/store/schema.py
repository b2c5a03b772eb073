"""The tables. Times are milliseconds since 1970 in UTC; ids are AWS's unique ids; JSON is text that we wrote.

``*_key`` columns hold a name in lower case: IAM names are unique without regard to case. A policy's text is stored byte
for byte as its author wrote it; beside a trust policy stand the unique ids that its principals had at that moment.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
)

Entity = Row[Any]  # a row of one of these tables, such as a user or a device

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

account = Table(
    "account",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("alias", String(63), unique=True),
    Column("created", BigInteger, nullable=False),
    Column("password_policy", Text),  # JSON of the UpdateAccountPasswordPolicy members; null: AWS's default policy
    Column("credential_report", Text),  # the last report, CSV
    Column("credential_report_at", BigInteger),
    Column("token_version", Integer),  # GlobalEndpointTokenVersion, 1 or 2; null: 2
)

user = Table(
    "iam_user",
    metadata,
    Column("id", String(21), primary_key=True),
    Column("account_id", String(12), ForeignKey("account.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("name_key", String(64), nullable=False),
    Column("path", String(512), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("boundary", String(2048)),
    Column("password_last_used", BigInteger),
    UniqueConstraint("account_id", "name_key"),
)

group = Table(
    "iam_group",
    metadata,
    Column("id", String(21), primary_key=True),
    Column("account_id", String(12), ForeignKey("account.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("name_key", String(128), nullable=False),
    Column("path", String(512), nullable=False),
    Column("created", BigInteger, nullable=False),
    UniqueConstraint("account_id", "name_key"),
)

membership = Table(
    "membership",
    metadata,
    Column("group_id", String(21), ForeignKey("iam_group.id"), primary_key=True),
    Column("user_id", String(21), ForeignKey("iam_user.id"), primary_key=True, index=True),
)

role = Table(
    "iam_role",
    metadata,
    Column("id", String(21), primary_key=True),
    Column("account_id", String(12), ForeignKey("account.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("name_key", String(64), nullable=False),
    Column("path", String(512), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("description", Text),
    Column("trust", Text, nullable=False),
    Column("trust_ids", Text, nullable=False),  # JSON: principal ARN in the trust policy -> its unique id then
    Column("max_session", Integer, nullable=False),
    Column("boundary", String(2048)),
    UniqueConstraint("account_id", "name_key"),
)

# Whom a role's trust policy lets in, so that a sign-in finds its roles without reading all of them.
role_federated = Table(
    "role_federated",
    metadata,
    Column("role_id", String(21), ForeignKey("iam_role.id"), primary_key=True),
    Column("provider", String(512), primary_key=True, index=True),  # ldap-provider/corp, account/1…2, account/*
)

policy = Table(
    "iam_policy",
    metadata,
    Column("id", String(21), primary_key=True),
    Column("account_id", String(12), ForeignKey("account.id"), nullable=False),
    Column("arn", String(2048), nullable=False, unique=True),
    Column("name", String(128), nullable=False),
    Column("name_key", String(128), nullable=False),
    Column("path", String(512), nullable=False),
    Column("description", Text),
    Column("default_version", Integer, nullable=False),
    Column("last_version", Integer, nullable=False),  # version numbers are never used twice
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    UniqueConstraint("account_id", "name_key"),
)

policy_version = Table(
    "policy_version",
    metadata,
    Column("policy_id", String(21), ForeignKey("iam_policy.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
)

# A managed policy (ours or AWS's, so no foreign key) on a user, group or role.
attachment = Table(
    "attachment",
    metadata,
    Column("entity_id", String(21), primary_key=True),
    Column("policy_arn", String(2048), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("attached", BigInteger, nullable=False),
    Index(None, "policy_arn", "account_id"),
)

inline_policy = Table(
    "inline_policy",
    metadata,
    Column("entity_id", String(21), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
)

# The entity is a user, role, policy, instance profile (unique id) or MFA device (serial number).
tag = Table(
    "tag",
    metadata,
    Column("entity_id", String(256), primary_key=True),
    Column("key_folded", String(128), primary_key=True),
    Column("key", String(128), nullable=False),
    Column("value", String(256), nullable=False),
)

access_key = Table(
    "access_key",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("account_id", String(12), ForeignKey("account.id"), nullable=False, index=True),
    Column("user_id", String(21), ForeignKey("iam_user.id"), index=True),  # null: the account's root
    Column("secret", LargeBinary, nullable=False),  # sealed, owner = the key id
    Column("active", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("last_used", BigInteger),
    Column("last_used_service", String(64)),
    Column("last_used_region", String(64)),
)

login_profile = Table(
    "login_profile",
    metadata,
    Column("user_id", String(21), ForeignKey("iam_user.id"), primary_key=True),
    Column("hash", String(256), nullable=False),  # argon2id, PHC string
    Column("previous", Text, nullable=False),  # JSON list of earlier hashes, newest first
    Column("created", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("reset_required", Boolean, nullable=False),
)

# How the owner of an account signs in to the page; who has no row signs in with an access key alone.
root_login = Table(
    "root_login",
    metadata,
    Column("account_id", String(12), ForeignKey("account.id"), primary_key=True),
    Column("email", String(256), nullable=False),
    Column("email_key", String(256), nullable=False, unique=True),
    Column("hash", String(256), nullable=False),  # argon2id, PHC string
    Column("changed", BigInteger, nullable=False),
    Column("reset_required", Boolean, nullable=False),
    Column("last_used", BigInteger),
)

mfa_device = Table(
    "mfa_device",
    metadata,
    Column("serial", String(256), primary_key=True),  # arn:aws:iam::ACCOUNT:mfa/PATH/NAME
    Column("account_id", String(12), ForeignKey("account.id"), nullable=False, index=True),
    Column("seed", LargeBinary, nullable=False),  # sealed, owner = the serial number
    Column("user_id", String(21), ForeignKey("iam_user.id"), index=True),
    Column("root", Boolean, nullable=False),  # enabled for the account's root
    Column("created", BigInteger, nullable=False),
    Column("enabled", BigInteger),
    Column("last_step", BigInteger),  # the newest accepted TOTP step: none is accepted twice (RFC 6238 5.2)
    Column("drift", Integer, nullable=False),  # steps by which the device's clock runs ahead (ResyncMFADevice)
)

# What a person (provider|subject) proves possession of besides a password: an authenticator app or a passkey. Virtual
# MFA devices of users and roots stand in mfa_device.
second_factor = Table(
    "second_factor",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("person", String(512), nullable=False, index=True),
    Column("kind", String(8), nullable=False),  # totp | passkey
    Column("name", String(128), nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # the seed, or the public key (COSE); owner = the factor's id
    Column("credential_id", LargeBinary, unique=True),  # of a passkey
    Column("sign_count", BigInteger),  # of a passkey
    Column("last_step", BigInteger),  # the newest accepted TOTP step
    Column("created", BigInteger, nullable=False),
    Column("last_used", BigInteger),
)

# Codes that stand in for a lost factor, each once. A code has 80 bits of chance, so that a fast hash keeps it.
recovery_code = Table(
    "recovery_code",
    metadata,
    Column("person", String(512), primary_key=True),
    Column("hash", String(64), primary_key=True),  # SHA-256 of the code in small letters, without hyphens
    Column("created", BigInteger, nullable=False),
)

# The roles that a person has pinned or taken. No foreign key: a person goes on while roles come and go.
role_mark = Table(
    "role_mark",
    metadata,
    Column("person", String(512), primary_key=True),
    Column("role_id", String(21), primary_key=True, index=True),
    Column("pinned", Boolean, nullable=False),
    Column("taken", BigInteger),
)

instance_profile = Table(
    "instance_profile",
    metadata,
    Column("id", String(21), primary_key=True),
    Column("account_id", String(12), ForeignKey("account.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("name_key", String(128), nullable=False),
    Column("path", String(512), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("role_id", String(21), ForeignKey("iam_role.id"), index=True),
    UniqueConstraint("account_id", "name_key"),
)

# The ceiling of a whole account: what no policy of it can grant beyond. Set by the operator, not through the API.
guardrail = Table(
    "guardrail",
    metadata,
    Column("account_id", String(12), ForeignKey("account.id"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
)

# A SAML identity provider. Its metadata is stored byte for byte; what an operator set besides is not in AWS's API.
saml_provider = Table(
    "saml_provider",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), ForeignKey("account.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("name_key", String(128), nullable=False),
    Column("metadata", Text, nullable=False),
    Column("valid_until", BigInteger),  # as the metadata says
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("encryption", String(8)),  # Required | Allowed; null: never asked for
    Column("idp_initiated", Boolean, nullable=False),  # accept a response that nobody here had asked for
    Column("map_by_trust", Boolean, nullable=False),  # people without Role attributes get roles by trust policies
    Column("metadata_url", String(2048)),
    Column("refresh_at", BigInteger, index=True),  # null: its metadata is never fetched
    Column("refresh_error", Text),
    UniqueConstraint("account_id", "name_key"),
)

# OpenID Connect providers: whose tokens get roles of the account.
oidc_provider = Table(
    "oidc_provider",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), ForeignKey("account.id"), nullable=False),
    Column("url", String(255), nullable=False),  # without https://, as the ARN has it
    Column("url_key", String(255), nullable=False),
    Column("client_ids", Text, nullable=False),  # a JSON list
    Column("thumbprints", Text, nullable=False),  # a JSON list
    Column("created", BigInteger, nullable=False),
    Column("use_once", Boolean, nullable=False),  # a token gets credentials once
    UniqueConstraint("account_id", "url_key"),
)

# The client by which people sign in in the browser through an OpenID Connect provider.
sign_in_client = Table(
    "sign_in_client",
    metadata,
    Column("provider_id", String(32), ForeignKey("oidc_provider.id"), primary_key=True),
    Column("client_id", String(255), nullable=False),
    Column("sealed", LargeBinary),  # the client's secret, owner = the provider's id; null for a public client
    Column("scopes", String(1024), nullable=False),
    Column("name", String(128), nullable=False),  # as the sign-in page shows it
    Column("kind", String(16), nullable=False),  # oidc | github
)

# The issuer of an account, whose tokens others may trust; its id stays when it is disabled.
outbound_issuer = Table(
    "outbound_issuer",
    metadata,
    Column("account_id", String(12), ForeignKey("account.id"), primary_key=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("enabled", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False),
)

# The keys that sign tokens of our issuers, for each algorithm. All are published; the newest whose time has come signs.
issuer_key = Table(
    "issuer_key",
    metadata,
    Column("id", String(32), primary_key=True),  # the kid
    Column("algorithm", String(8), nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # owner = the key's id
    Column("created", BigInteger, nullable=False),
    Column("signs_from", BigInteger, nullable=False),
)

# The keys with which a provider's encrypted assertions are opened: two at most, so that they can be changed.
saml_private_key = Table(
    "saml_private_key",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("provider_id", String(32), ForeignKey("saml_provider.id"), nullable=False, index=True),
    Column("sealed", LargeBinary, nullable=False),  # owner = the key's id
    Column("created", BigInteger, nullable=False),
)

# The keys of our own SAML service provider. All are published and open what was encrypted; the newest whose time has
# come signs.
saml_service_key = Table(
    "saml_service_key",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),  # owner = the key's id
    Column("certificate", Text, nullable=False),  # PEM
    Column("created", BigInteger, nullable=False),
    Column("signs_from", BigInteger, nullable=False),
)

# A session is refused when it was issued at or before the newest matching cut-off.
revocation = Table(
    "revocation",
    metadata,
    Column("kind", String(16), primary_key=True),  # session | person | role | account
    Column("subject", String(512), primary_key=True),  # session id | provider|subject | role's unique id | account id
    Column("before", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
)

# Things that may happen once: assertion ids, TOTP steps. The primary key is the decision.
used_marker = Table(
    "used_marker",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("marker", String(512), primary_key=True),
    Column("expires", BigInteger, nullable=False, index=True),
)

# Failed directory sign-ins of one name from one source within the window.
failed_attempt = Table(
    "failed_attempt",
    metadata,
    Column("subject", String(512), primary_key=True),
    Column("source", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("since", BigInteger, nullable=False, index=True),
)

# The keys that seal session tokens, themselves sealed under the master key. The newest seals, all open.
sealing_key = Table(
    "sealing_key",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),  # owner = the key's id
    Column("created", BigInteger, nullable=False),
)

# The audit record of each change of IAM data, written in the transaction of the change.
audit_record = Table(
    "audit_record",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("event_id", String(36), nullable=False, unique=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("account_id", String(12), nullable=False),
    Column("record", Text, nullable=False),
)

# One row. Every change adds one; workers drop what they have cached when they see it move.
revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
)
