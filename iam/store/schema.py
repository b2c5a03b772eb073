"""The tables. Times are milliseconds since 1970 in UTC; ids are unique ids as in AWS; JSON columns are written here.

``*_key`` columns hold a name in lower case: their unique constraints make IAM names unique without regard to case, also
between simultaneous requests. Policies are stored byte for byte as submitted; a trust policy is stored with the unique
ids that its principals had at that time.
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
    text,
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
    Column("credential_report", Text),  # the latest report, CSV
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
    Column(
        "trust_ids", Text, nullable=False
    ),  # JSON: principal ARN in the trust policy -> its unique id when it was saved
    Column("max_session", Integer, nullable=False),
    Column("boundary", String(2048)),
    UniqueConstraint("account_id", "name_key"),
)

# Index of trust policies: whom each role allows, so that a sign-in finds its roles without reading all of them.
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
    Column("last_version", Integer, nullable=False),  # version numbers are never reused
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

# A managed policy attached to a user, group or role. No foreign key: AWS managed policies are not in the database.
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

# Password sign-in of an account's root to the web pages; a root without a row has access keys only.
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
    Column("last_step", BigInteger),  # the newest accepted TOTP step; each is accepted once (RFC 6238 5.2)
    Column("drift", Integer, nullable=False),  # steps by which the device's clock is ahead (ResyncMFADevice)
)

# MFA factors of a person (provider|subject): authenticator apps and passkeys. Virtual MFA devices of users and roots
# are in mfa_device.
second_factor = Table(
    "second_factor",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("person", String(512), nullable=False, index=True),
    Column("kind", String(8), nullable=False),  # totp | passkey
    Column("name", String(128), nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # the seed, or the public key (COSE); owner = the factor's id
    Column("credential_id", LargeBinary, unique=True),  # of a passkey; unique: it identifies one person
    Column("sign_count", BigInteger),  # of a passkey
    Column("last_step", BigInteger),  # the newest accepted TOTP step
    Column("created", BigInteger, nullable=False),
    Column("last_used", BigInteger),
)

# Of people of directories who changed their password here: a random text, another one after each change. Browser
# sessions that began with another one have ended.
password_mark = Table(
    "password_mark",
    metadata,
    Column("person", String(512), primary_key=True),
    Column("mark", String(32), nullable=False),
)

# Single-use codes that replace a lost factor. A code has 80 random bits, so a fast hash protects it.
recovery_code = Table(
    "recovery_code",
    metadata,
    Column("person", String(512), primary_key=True),
    Column("hash", String(64), primary_key=True),  # SHA-256 of the code in lower case, without hyphens
    Column("created", BigInteger, nullable=False),
)

# The roles that a person has pinned or used (taken). No foreign keys: people of directories have no row.
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

# Guardrails limit a whole account, as service control policies do. Set by the operator, not through the API.
guardrail = Table(
    "guardrail",
    metadata,
    Column("account_id", String(12), ForeignKey("account.id"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
)

# Policies of resources of the settings, and of their buckets. Set by the operator, not through the API.
resource_policy = Table(
    "resource_policy",
    metadata,
    Column("resource", String(64), primary_key=True),  # NAME of [resource.NAME]
    Column("bucket", String(255), primary_key=True),  # empty: of the resource itself
    Column("document", Text, nullable=False),
    Column("principal_ids", Text, nullable=False),  # JSON: principal ARN -> its unique id when the policy was set
    Column("created", BigInteger, nullable=False),
)

# A SAML identity provider. Its metadata is stored byte for byte. Settings of the operator are not part of AWS's API.
saml_provider = Table(
    "saml_provider",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), ForeignKey("account.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("name_key", String(128), nullable=False),
    Column("metadata", Text, nullable=False),  # up to 10 MB: see SAML_PROVIDER_COLUMNS
    Column("valid_until", BigInteger),  # validUntil of the metadata
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("encryption", String(8)),  # Required | Allowed; null: not configured
    Column("idp_initiated", Boolean, nullable=False),  # accept responses without a request from here
    Column("map_by_trust", Boolean, nullable=False),  # people without Role attributes get the roles that trust them
    Column("metadata_url", String(2048)),
    Column("refresh_at", BigInteger, index=True),  # null: the metadata is not fetched
    Column("refresh_error", Text),
    # What was parsed when the metadata was stored (iam.saml.stored_metadata); null: the metadata cannot be read.
    Column("parsed", Text),
    Column("entity_id", String(1024)),
    Column("certificates", Text),  # a JSON list: fingerprint, subject and end of each certificate
    Column("first_end", BigInteger, index=True),  # when the first certificate or the metadata ends
    Column("metadata_size", Integer, nullable=False, server_default="0"),  # characters
    Column("sign_in_name", String(128)),  # as the sign-in page shows it; null: the page does not show it
    UniqueConstraint("account_id", "name_key"),
    # All that the sign-in page reads, which anybody can ask for: SQLite reads a whole document to get at the columns
    # behind it.
    Index(
        "ix_saml_provider_sign_in_name",
        "sign_in_name",
        "id",
        "account_id",
        "name",
        sqlite_where=text("sign_in_name IS NOT NULL"),
        postgresql_where=text("sign_in_name IS NOT NULL"),
    ),
)

# All but the document, which only those may read who need its text: it can have 10 MB.
SAML_PROVIDER_COLUMNS = tuple(column for column in saml_provider.c if column.name != "metadata")

# OpenID Connect providers, whose tokens can assume roles of the account.
oidc_provider = Table(
    "oidc_provider",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), ForeignKey("account.id"), nullable=False),
    Column("url", String(255), nullable=False),  # without https://, as in the ARN
    Column("url_key", String(255), nullable=False),
    Column("client_ids", Text, nullable=False),  # a JSON list
    Column("thumbprints", Text, nullable=False),  # a JSON list
    Column("created", BigInteger, nullable=False),
    Column("use_once", Boolean, nullable=False),  # a token is accepted once
    UniqueConstraint("account_id", "url_key"),
)

# The OAuth client for sign-in in the browser through an OpenID Connect provider.
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

# The token issuer of an account (outbound federation); its id stays when it is disabled.
outbound_issuer = Table(
    "outbound_issuer",
    metadata,
    Column("account_id", String(12), ForeignKey("account.id"), primary_key=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("enabled", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False),
)

# The signing keys of our token issuers, per algorithm. All are published; the newest with signs_from in the past signs.
issuer_key = Table(
    "issuer_key",
    metadata,
    Column("id", String(32), primary_key=True),  # the kid
    Column("algorithm", String(8), nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # owner = the key's id
    Column("created", BigInteger, nullable=False),
    Column("signs_from", BigInteger, nullable=False),
)

# The keys that decrypt a SAML provider's assertions: at most two, so that they can be rotated.
saml_private_key = Table(
    "saml_private_key",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("provider_id", String(32), ForeignKey("saml_provider.id"), nullable=False, index=True),
    Column("sealed", LargeBinary, nullable=False),  # owner = the key's id
    Column("created", BigInteger, nullable=False),
)

# The keys of our SAML service provider. All are published and can decrypt; the newest with signs_from in the past
# signs.
saml_service_key = Table(
    "saml_service_key",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),  # owner = the key's id
    Column("certificate", Text, nullable=False),  # PEM
    Column("created", BigInteger, nullable=False),
    Column("signs_from", BigInteger, nullable=False),
)

# What a session seals when it is minted and a revocation raises (iam/store/revocation.py).
revocation_generation = Table(
    "revocation_generation",
    metadata,
    Column("scope", String(544), primary_key=True),  # kind|subject, such as role|AROA…
    Column("generation", BigInteger, nullable=False),  # random, never used before
    Column("revision", BigInteger, nullable=False),  # of the database when it was raised
    Column("expires", BigInteger, index=True),  # null: never deleted
)

# Values accepted once, such as assertion ids. The primary key decides: of two simultaneous inserts, one fails.
used_marker = Table(
    "used_marker",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("marker", String(512), primary_key=True),
    Column("expires", BigInteger, nullable=False, index=True),
)

# Failed sign-ins and wrong codes per subject and source (an address, or a fixed word) within the window.
failed_attempt = Table(
    "failed_attempt",
    metadata,
    Column("subject", String(512), primary_key=True),
    Column("source", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("since", BigInteger, nullable=False, index=True),
)

# Sign-in attempts that are being judged, kept here while Redis is down; ``expires`` in milliseconds.
running_attempt = Table(
    "running_attempt",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("subject", String(512), nullable=False, index=True),
    Column("source", String(64), nullable=False, index=True),
    Column("expires", BigInteger, nullable=False, index=True),
)

# The keys that seal session tokens, sealed under the master key. The newest one seals; all can open.
sealing_key = Table(
    "sealing_key",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),  # owner = the key's id
    Column("created", BigInteger, nullable=False),
)

# The audit record of each change of IAM data, written in the same transaction, so that no change goes unrecorded.
audit_record = Table(
    "audit_record",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("event_id", String(36), nullable=False, unique=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("account_id", String(12), nullable=False),
    Column("record", Text, nullable=False),
    # Whether the audit log has it, too; NULL until that is known.
    Column("logged", Boolean, index=True),
)

# One row. Every change increments it; workers clear their caches when they see a new number.
revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
)
