"""Session policies and tags of a request, validated; the session that is minted, and the credentials of a response."""

from collections.abc import Iterable

from iam.arn import parse_arn
from iam.errors import InvalidClientTokenId, ValidationError
from iam.params import Params, Result
from iam.policy.document import Policy, PolicyKind
from iam.revocation import ScopeKind, scope
from iam.store.store import Store
from sts.lineage import begin, refusal, scopes_to_read
from sts.mint import Grant, MintedSession, Tags, mint
from sts.operations.call import StsCall

# STS API reference, AssumeRole, Policy and PolicyArns (THREATS B24).
_POLICY_MAX = 2048  # characters
_POLICY_ARNS_MAX = 10


def session_tags(p: Params) -> Tags:
    """Return the session tags of a request."""
    return tuple((tag["Key"], tag["Value"]) for tag in p.get("Tags", ()))


def session_request_keys(p: Params, name: str | None) -> dict[str, tuple[str, ...]]:
    """Return the condition keys of the parameters that a request passes; ``name`` is the role session name."""
    keys: dict[str, tuple[str, ...]] = {
        f"aws:requesttag/{tag['Key'].lower()}": (tag["Value"],) for tag in p.get("Tags", ())
    }
    if keys:
        keys["aws:tagkeys"] = tuple(tag["Key"] for tag in p["Tags"])
    if p.get("TransitiveTagKeys"):
        keys["sts:transitivetagkeys"] = tuple(p["TransitiveTagKeys"])
    if "DurationSeconds" in p:
        keys["sts:durationseconds"] = (str(p["DurationSeconds"]),)
    if name is not None:
        keys["sts:rolesessionname"] = (name,)
    return keys


def check_tags(p: Params) -> None:
    """Raise ValidationError for tags that pass the service model (IAM User Guide, "Pass session tags in AWS STS").

    Policies compare tag keys without regard to case: two keys that differ only in case would have two values for one
    condition key (THREATS B21).
    """
    keys = [tag["Key"] for tag in p.get("Tags", ())]
    if len({key.lower() for key in keys}) != len(keys):
        raise ValidationError("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if any(key.lower().startswith("aws:") for key in keys):
        raise ValidationError("Tag keys that begin with aws: are reserved for internal use.")
    if not set(p.get("TransitiveTagKeys", ())) <= set(keys):
        raise ValidationError("The specified transitive tag key must be included in the requested tags.")


def session_policy(p: Params) -> str | None:
    """Return the inline session policy; raise ValidationError, MalformedPolicyDocument."""
    policy: str | None = p.get("Policy")
    if policy is None:
        return None
    if len(policy) > _POLICY_MAX:
        raise ValidationError(
            "1 validation error detected: Value at 'policy' failed to satisfy constraint:"
            f" Member must have length less than or equal to {_POLICY_MAX}",
        )
    Policy.parse(policy, PolicyKind.SESSION)
    return policy


def policy_arns(call: StsCall, p: Params, account_id: str) -> tuple[str, ...]:
    """Return the managed policies passed as session policies; raise ValidationError."""
    arns = tuple(item["arn"] for item in p.get("PolicyArns", ()) if "arn" in item)
    if len(arns) > _POLICY_ARNS_MAX:
        raise ValidationError(
            "1 validation error detected: Value at 'policyArns' failed to satisfy constraint:"
            f" Member must have length less than or equal to {_POLICY_ARNS_MAX}",
        )
    _check_policy_arns(call.store, arns, account_id)
    return arns


def _check_policy_arns(store: Store, arns: Iterable[str], account_id: str) -> None:
    for text in arns:
        arn = parse_arn(text)
        if arn is None or arn.account not in ("aws", account_id) or store.managed_policy(text) is None:
            raise ValidationError(f"The policy {text} does not exist or belongs to another account.")


def mint_session(call: StsCall, grant: Grant, seconds: int) -> MintedSession:
    """Mint a session that falls with the caller's session, and with each later revocation of its own scopes.

    The generations are read here, not taken from the cache: a revocation that another machine has just committed must
    not refuse a session that begins after it. Raise InvalidClientTokenId if the caller's session was revoked meanwhile.
    """
    parent = call.parent
    account = (scope(ScopeKind.ACCOUNT, call.caller.principal.account_id),) if call.caller else ()
    scopes = tuple(dict.fromkeys((*grant.scopes, *account)))
    now = call.store.current_generations(scopes_to_read(scopes, parent))
    revoked = refusal(parent.lineage, parent.session_id, now.generations) if parent else ""
    if revoked:
        raise InvalidClientTokenId(
            "The security token included in the request is invalid.", log=f"revoked by {revoked} meanwhile"
        )
    lineage = begin(scopes, parent, now)
    return mint(grant, seconds, now=call.now, random=call.random, sealer=call.sealer, lineage=lineage)


def add_packed_policy_size(result: Result, minted: MintedSession) -> Result:
    """Add PackedPolicySize to a response, if policies or tags were passed."""
    if minted.packed_policy_size is not None:
        result["PackedPolicySize"] = minted.packed_policy_size
    return result


def credentials_member(minted: MintedSession) -> Result:
    """Return the Credentials member of a response."""
    credentials = minted.credentials
    return {
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "SessionToken": credentials.session_token,
        "Expiration": credentials.expiration,
    }
