"""Reads the records that requests are judged by from the database."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from sqlalchemy import ColumnElement, Connection, Row, Table, and_, select

from iam.arn import iam_arn, parse_arn
from iam.errors import MalformedPolicyDocument, ServiceFailure
from iam.policy import managed
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.saml.metadata import InvalidMetadata
from iam.saml.stored_metadata import load_metadata
from iam.store import schema
from iam.store.records import (
    EVERY_BUCKET,
    AccessKey,
    AccountRecord,
    OidcProviderRecord,
    RoleRecord,
    SamlProviderRecord,
    SignInClient,
    Tags,
    UserRecord,
)
from iam.store.vault import CannotUnseal, Vault

# Parses a policy from text, kind and label; the store caches the result.
ParsePolicy = Callable[[str, PolicyKind, str], Policy]
ManagedByArn = Callable[[Connection, str], Policy | None]
_BATCH_SIZE = 500  # roles per query: databases limit the number of bound parameters
# Stands for a permissions boundary that was deleted: failing open would lift the limit.
DENY_ALL_POLICY = Policy.parse(
    '{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}',
    PolicyKind.BOUNDARY,
    label="a permissions boundary that no longer exists",
)


def managed_document(tx: Connection, arn: str) -> str | None:
    """Return the text of the default version of a managed policy, AWS's or customer managed."""
    aws_policy = managed.load().get(arn)
    if aws_policy is not None:
        return aws_policy.policy.text
    policy, version = schema.policy.c, schema.policy_version.c
    query = select(version.document).join_from(
        schema.policy,
        schema.policy_version,
        (version.policy_id == policy.id) & (version.version == policy.default_version),
    )
    text: str | None = tx.execute(query.where(policy.arn == arn)).scalar()
    return text


def parse_stored_policy(text: str, kind: PolicyKind, label: str) -> Policy:
    """Return a stored policy; raise ServiceFailure if it does not parse, because skipping it would skip its denies."""
    try:
        return Policy.parse(text, kind, label=label)
    except MalformedPolicyDocument as error:
        raise ServiceFailure("A stored policy cannot be read.", log=f"stored policy {label}: {error.log}") from error


def open_private_key(vault: Vault, sealed: bytes, owner: str) -> RSAPrivateKey:
    """Return an RSA private key that is sealed at rest; raise ServiceFailure if it cannot be opened."""
    try:
        key = load_der_private_key(vault.open(sealed, owner), None)
    except (CannotUnseal, ValueError) as error:
        raise ServiceFailure("A stored secret cannot be read.", log=f"sealed private key {owner}") from error
    if not isinstance(key, RSAPrivateKey):
        raise ServiceFailure("A stored secret cannot be read.", log=f"{owner} is not an RSA key")
    return key


@dataclass(frozen=True, slots=True)
class RecordReader:
    """Reads records in one transaction."""

    tx: Connection
    vault: Vault
    parse: ParsePolicy
    managed: ManagedByArn

    def access_key(self, key_id: str) -> AccessKey | None:
        """Return a long-term access key."""
        table = schema.access_key.c
        row = self._select_one(schema.access_key, table.id == key_id)
        if row is None:
            return None
        try:
            secret = self.vault.open(row.secret, row.id).decode()
        except CannotUnseal as error:
            raise ServiceFailure("A stored secret cannot be read.", log=f"sealed secret of {key_id}") from error
        return AccessKey(row.id, row.account_id, row.user_id, secret, row.active)

    def account(self, where: ColumnElement[bool]) -> AccountRecord | None:
        """Return the account that matches a condition."""
        row = self._select_one(schema.account, where)
        return AccountRecord(row.id, row.alias, row.created, self._guardrails(row.id)) if row else None

    def user(self, user_id: str) -> UserRecord | None:
        """Return a user by its unique id."""
        row = self._select_one(schema.user, schema.user.c.id == user_id)
        if row is None:
            return None
        membership = schema.membership.c
        groups = self.tx.scalars(select(membership.group_id).where(membership.user_id == user_id)).all()
        return UserRecord(
            id=row.id,
            account_id=row.account_id,
            name=row.name,
            path=row.path,
            arn=iam_arn(row.account_id, "user", row.name, row.path),
            tags=self._tags(row.id),
            boundary=self._boundary(row.boundary),
            policies=self._policies((row.id, *groups)),
        )

    def role(self, role_id: str) -> RoleRecord | None:
        """Return a role by its unique id."""
        return next(iter(self.roles((role_id,))), None)

    def roles(self, role_ids: Sequence[str]) -> Iterator[RoleRecord]:
        """Yield the roles with these unique ids, with a few queries per batch."""
        for start in range(0, len(role_ids), _BATCH_SIZE):
            yield from self._roles(role_ids[start : start + _BATCH_SIZE])

    def _roles(self, role_ids: Sequence[str]) -> Iterator[RoleRecord]:
        tags, policies = self._tags_of(role_ids), self._policies_of(role_ids)
        for row in self.tx.execute(select(schema.role).where(schema.role.c.id.in_(role_ids))).all():
            arn = iam_arn(row.account_id, "role", row.name, row.path)
            yield RoleRecord(
                id=row.id,
                account_id=row.account_id,
                name=row.name,
                path=row.path,
                arn=arn,
                trust=self._trust(row, arn),
                max_session=row.max_session,
                tags=tuple(tags.get(row.id, ())),
                boundary=self._boundary(row.boundary),
                policies=PolicySet(policies.get(row.id, ())),
                description=row.description or "",
                created=row.created,
            )

    def role_id(self, arn: str) -> str | None:
        """Return the unique id of the role with exactly this ARN."""
        return self._id_by_arn(schema.role, "role", arn)

    def user_id(self, arn: str) -> str | None:
        """Return the unique id of the user with exactly this ARN."""
        return self._id_by_arn(schema.user, "user", arn)

    def role_id_by_name(self, account_id: str, name: str) -> str | None:
        """Return the unique id of a role by its name; the ARN of a role session has no path."""
        table = schema.role.c
        row = self._select_one(schema.role, and_(table.account_id == account_id, table.name_key == name.lower()))
        return row.id if row else None

    def _id_by_arn(self, table: Table, kind: str, arn: str) -> str | None:
        parts = parse_arn(arn)
        if parts is None or parts[:3] != ("aws", "iam", "") or not parts.resource.startswith(f"{kind}/"):
            return None
        name = parts.resource.rpartition("/")[2]
        row = self._select_one(table, and_(table.c.account_id == parts.account, table.c.name_key == name.lower()))
        # Names are found without regard to case; ARNs, as in AWS, are equal only as they are written.
        return row.id if row and iam_arn(row.account_id, kind, row.name, row.path) == arn else None

    def saml_provider(self, arn: str) -> SamlProviderRecord | None:
        """Return the SAML provider with exactly this ARN."""
        parts = parse_arn(arn)
        name = parts.resource.removeprefix("saml-provider/") if parts else ""
        table = schema.saml_provider.c
        account_id = parts.account if parts else ""
        query = select(*schema.SAML_PROVIDER_COLUMNS).where(table.account_id == account_id, table.name == name)
        row = self.tx.execute(query).one_or_none()
        if row is None or iam_arn(row.account_id, "saml-provider/", row.name, "") != arn:
            return None
        try:
            metadata = load_metadata(row.parsed)
        except InvalidMetadata as error:
            raise ServiceFailure("A stored metadata document cannot be read.", log=f"{arn}: {error}") from error
        return SamlProviderRecord(
            id=row.id,
            account_id=row.account_id,
            name=row.name,
            arn=arn,
            metadata=metadata,
            keys=self._private_keys(row.id),
            encryption_required=row.encryption == "Required",
            idp_initiated=row.idp_initiated,
            map_by_trust=row.map_by_trust,
        )

    def oidc_provider(self, arn: str) -> OidcProviderRecord | None:
        """Return the OpenID Connect provider with exactly this ARN."""
        parts = parse_arn(arn)
        table = schema.oidc_provider.c
        account_id, url = (parts.account, parts.resource.removeprefix("oidc-provider/")) if parts else ("", "")
        row = self._select_one(schema.oidc_provider, and_(table.account_id == account_id, table.url == url))
        if row is None or iam_arn(row.account_id, "oidc-provider/", row.url, "") != arn:
            return None
        clients = frozenset(json.loads(row.client_ids))
        sign_in = self._sign_in_client(row.id)
        return OidcProviderRecord(row.id, row.account_id, row.url, arn, clients, row.use_once, sign_in)

    def _sign_in_client(self, provider_id: str) -> SignInClient | None:
        table = schema.sign_in_client
        row = self._select_one(table, table.c.provider_id == provider_id)
        if row is None:
            return None
        secret = self.vault.open(row.sealed, provider_id).decode() if row.sealed else None
        return SignInClient(row.client_id, secret, row.scopes, row.name, row.kind)

    def _private_keys(self, provider_id: str) -> tuple[RSAPrivateKey, ...]:
        table = schema.saml_private_key.c
        rows = self.tx.execute(select(table.id, table.sealed).where(table.provider_id == provider_id)).all()
        return tuple(open_private_key(self.vault, row.sealed, row.id) for row in rows)

    def roles_trusting(self, provider: str, accounts: frozenset[str] | None = None) -> tuple[str, ...]:
        """Return the ids of the roles whose trust policies allow an identity provider or account, by its index name.

        Those of these accounts, or of all.
        """
        table, role = schema.role_federated.c, schema.role.c
        query = select(table.role_id).where(table.provider == provider).order_by(table.role_id)
        if accounts is not None:
            query = query.join(schema.role, role.id == table.role_id).where(role.account_id.in_(sorted(accounts)))
        return tuple(self.tx.scalars(query))

    def _select_one(self, table: Any, where: ColumnElement[bool]) -> Row[Any] | None:  # noqa: ANN401 - any table
        return self.tx.execute(select(table).where(where)).one_or_none()

    def _tags(self, entity_id: str) -> Tags:
        return tuple(self._tags_of((entity_id,)).get(entity_id, ()))

    def _tags_of(self, entity_ids: Sequence[str]) -> Mapping[str, list[tuple[str, str]]]:
        table = schema.tag.c
        query = select(table.entity_id, table.key, table.value).where(table.entity_id.in_(entity_ids))
        tags: dict[str, list[tuple[str, str]]] = {}
        for entity_id, key, value in self.tx.execute(query.order_by(table.entity_id, table.key_folded)):
            tags.setdefault(entity_id, []).append((key, value))
        return tags

    def _boundary(self, arn: str | None) -> PolicySet | None:
        return PolicySet((self.managed(self.tx, arn) or DENY_ALL_POLICY,)) if arn else None

    def _guardrails(self, account_id: str) -> PolicySet | None:
        table = schema.guardrail.c
        query = select(table.name, table.document).where(table.account_id == account_id).order_by(table.name)
        guardrails = [self.parse(text, PolicyKind.GUARDRAIL, name) for name, text in self.tx.execute(query)]
        return PolicySet(guardrails) if guardrails else None

    def resource_policy(self, resource: str, bucket: str) -> PolicySet | None:
        """Return the policies of a resource and of one of its buckets, or of all; with principals by their ids."""
        table = schema.resource_policy.c
        query = select(schema.resource_policy).where(table.resource == resource)
        if bucket != EVERY_BUCKET:
            query = query.where(table.bucket.in_({"", bucket}))
        rows = self.tx.execute(query.order_by(table.bucket)).all()
        policies = [self._resource_policy(row) for row in rows]
        return PolicySet(policies) if policies else None

    def _resource_policy(self, row: Row[Any]) -> Policy:
        label = f"{row.resource}/{row.bucket}" if row.bucket else row.resource
        policy, ids_by_arn = self.parse(row.document, PolicyKind.RESOURCE, label), json.loads(row.principal_ids)
        return policy.bind(ids_by_arn) if ids_by_arn else policy

    def _policies(self, entity_ids: Iterable[str]) -> PolicySet:
        """Return the policies of several entities, such as a user and its groups, as one set."""
        by_entity = self._policies_of(tuple(entity_ids))
        return PolicySet(dict.fromkeys(policy for policies in by_entity.values() for policy in policies))

    def _policies_of(self, entity_ids: Sequence[str]) -> Mapping[str, list[Policy]]:
        """Return the policies of each entity: inline ones by name, then attached ones by ARN."""
        inline, attached = schema.inline_policy.c, schema.attachment.c
        texts = select(inline.entity_id, inline.name, inline.document).where(inline.entity_id.in_(entity_ids))
        policies: dict[str, list[Policy]] = {}
        for entity_id, name, text in self.tx.execute(texts.order_by(inline.entity_id, inline.name)).all():
            policies.setdefault(entity_id, []).append(self.parse(text, PolicyKind.IDENTITY, name))
        arns = select(attached.entity_id, attached.policy_arn).where(attached.entity_id.in_(entity_ids))
        known: dict[str, Policy | None] = {}
        for entity_id, arn in self.tx.execute(arns.order_by(attached.entity_id, attached.policy_arn)).all():
            policy = known[arn] if arn in known else known.setdefault(arn, self.managed(self.tx, arn))
            if policy is not None:
                policies.setdefault(entity_id, []).append(policy)
        return policies

    def _trust(self, row: Row[Any], arn: str) -> PolicySet:
        # Bound to unique ids, so that a principal deleted and created again under the same name is not trusted.
        ids_by_arn: dict[str, str] = json.loads(row.trust_ids)
        policy = self.parse(row.trust, PolicyKind.TRUST, arn)
        return PolicySet((policy.bind(ids_by_arn) if ids_by_arn else policy,))
