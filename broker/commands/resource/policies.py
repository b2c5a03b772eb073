"""``fedgate resource policy``: who of which account may use a resource or a bucket, as its owner says."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import click

from broker.authz.known_services import KnownServices
from broker.authz.resource import Resource, ResourceKind
from broker.commands.operator_audit import audited_change
from broker.commands.options import installation_options, load_settings, read_text_argument
from broker.commands.output import escape_unprintable, json_option, print_fields, print_json
from broker.commands.resource.resources import named_resource
from broker.wiring import now, open_store
from iam import resource_policies
from iam.clock import to_milliseconds
from iam.policy.lint.findings import Finding
from iam.policy.lint.policies import lint
from iam.resource_policies import ResourcePolicy

_bucket = click.option("--bucket", default="", help="A bucket of the resource; without it, the policy of the resource.")


@click.group()
def policy() -> None:
    """Set, show and delete the policy of a resource, or of one of its buckets.

    It is a resource-based policy, as a bucket policy of Amazon S3: within the owner's account it grants beside the
    identity-based policies, and principals of other accounts need it besides their own. The policies of the settings,
    of the resource and of the bucket are evaluated together.
    """


@policy.command()
@click.argument("name")
@click.argument("document", metavar="FILE", type=read_text_argument)
@_bucket
@installation_options
@json_option
def put(name: str, document: str, bucket: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Set the policy of the resource NAME from a FILE (- for standard input); it replaces the one that is there.

    It takes effect with the next request. Principals are the users and roles that they are now: one that is created
    again under the same name is not let in. Findings of `fedgate lint` are printed and do not keep the policy out.
    """
    settings = load_settings(config, data)
    owner = named_resource(settings, name)
    _require_buckets(owner, bucket)
    new = ResourcePolicy(name, bucket, document, to_milliseconds(now()))
    with closing(open_store(settings)) as store, audited_change(settings, store, "PutResourcePolicy") as change:
        parsed = resource_policies.put(change.tx, new, settings.limits)
        change.account_id = owner.account
        change.parameters = {"resource": name, "bucket": bucket, "document": document}
    findings = lint(parsed, KnownServices(settings.resources.values()))
    if as_json:
        print_json({"resource": name, "bucket": bucket, "findings": [_in_json(finding) for finding in findings]})
        return
    print_fields({"policy of": str(new)})
    for line in _told(findings):
        click.echo(escape_unprintable(line))


def _require_buckets(owner: Resource, bucket: str) -> None:
    if bucket and owner.kind is not ResourceKind.S3:
        raise click.UsageError(f"{owner.name} is of kind {owner.kind} and has no buckets.")


def _in_json(finding: Finding) -> dict[str, str]:
    return {"level": finding.level, "code": finding.code, "place": finding.location, "text": finding.text}


def _told(findings: Iterable[Finding]) -> Iterable[str]:
    for finding in findings:
        yield f"{finding.level} {finding.code} ({finding.location})"
        yield f"    {finding.text}"


@policy.command()
@click.argument("name")
@_bucket
@installation_options
def get(name: str, bucket: str, config: Path | None, data: Path | None) -> None:
    """Print the policy of the resource NAME, as it was set.

    A user or role that has another name by now is shown by that, and one that was deleted by its unique id.
    """
    with closing(open_store(load_settings(config, data))) as store, store.read() as tx:
        found = resource_policies.get(tx, name, bucket)
    click.echo(found.document.rstrip("\n"))


@policy.command()
@click.argument("name")
@_bucket
@installation_options
@json_option
def delete(name: str, bucket: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Delete the policy of the resource NAME, also of one that the settings no longer have."""
    settings = load_settings(config, data)
    owner = settings.resources.get(name)
    with closing(open_store(settings)) as store, audited_change(settings, store, "DeleteResourcePolicy") as change:
        resource_policies.remove(change.tx, name, bucket)
        change.account_id = owner.account if owner else None
        change.parameters = {"resource": name, "bucket": bucket}
    if as_json:
        print_json({"resource": name, "bucket": bucket})
    else:
        print_fields({"policy deleted": f"{name}/{bucket}" if bucket else name})
