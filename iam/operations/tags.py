"""Tags of users, roles, policies and SAML providers. Source: IAM API Reference, TagUser, TagRole."""

from collections.abc import Callable

from sqlalchemy import select

from iam.call import Call, Params, Result
from iam.operations.federation import oidc_providers
from iam.operations.federation.saml_providers import find_provider
from iam.operations.named_entities import ROLE, USER, find_named, paginate
from iam.operations.policies.managed import find_own
from iam.store.schema import Entity, tag
from iam.store.tags import delete_tags, put_tags

_Run = Callable[[Call, Params], Result]
_Find = Callable[[Call, Params], Entity]


def _user(call: Call, p: Params) -> Entity:
    return find_named(call, USER, p)


def _role(call: Call, p: Params) -> Entity:
    return find_named(call, ROLE, p)


def _policy(call: Call, p: Params) -> Entity:
    return find_own(call, p["PolicyArn"])


def _tag(find: _Find) -> _Run:
    def put(call: Call, p: Params) -> Result:
        """Add tags or replace the values of existing ones; raise InvalidInput, LimitExceeded."""
        put_tags(call.tx, find(call, p).id, p["Tags"], call.limits)
        return {}

    return put


def _untag(find: _Find) -> _Run:
    def untag(call: Call, p: Params) -> Result:
        """Remove tags; missing ones are ignored."""
        delete_tags(call.tx, find(call, p).id, p["TagKeys"])
        return {}

    return untag


def _list(find: _Find) -> _Run:
    def list_tags(call: Call, p: Params) -> Result:
        """Return a page of tags, by key."""
        query = select(tag).where(tag.c.entity_id == find(call, p).id)
        rows, paging = paginate(call, query, tag.c.key_folded, p)
        return {"Tags": [{"Key": row.key, "Value": row.value} for row in rows], **paging}

    return list_tags


tag_user, tag_role, tag_policy = _tag(_user), _tag(_role), _tag(_policy)
untag_user, untag_role, untag_policy = _untag(_user), _untag(_role), _untag(_policy)
list_user_tags, list_role_tags, list_policy_tags = _list(_user), _list(_role), _list(_policy)
tag_saml_provider, untag_saml_provider = _tag(find_provider), _untag(find_provider)
list_saml_provider_tags = _list(find_provider)
tag_oidc_provider, untag_oidc_provider = _tag(oidc_providers.find_provider), _untag(oidc_providers.find_provider)
list_oidc_provider_tags = _list(oidc_providers.find_provider)
