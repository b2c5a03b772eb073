"""``fedgate resource list`` and ``show``: the resources of the settings."""

from contextlib import closing
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from broker.authz.resource import Resource, Route
from broker.commands.options import installation_options, load_settings
from broker.commands.output import format_time, json_option, print_fields, print_json, print_table
from broker.config.settings import Settings
from broker.wiring import open_store
from iam import resource_policies


def named_resource(settings: Settings, name: str) -> Resource:
    """Return a resource of the settings; raise ClickException for another name."""
    found = settings.resources.get(name)
    if found is not None:
        return found
    similar = get_close_matches(name, settings.resources, n=1)
    known = f"Did you mean {similar[0]}?" if similar else f"They have: {', '.join(settings.resources) or 'none'}."
    raise click.ClickException(f"The settings have no [resource.{name}]. {known}")


@click.command("list")
@installation_options
@json_option
def list_(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the resources of the settings."""
    resources = load_settings(config, data).resources.values()
    if as_json:
        print_json(
            [{"name": one.name, "kind": one.kind, "hosts": one.hosts, "account": one.account} for one in resources]
        )
    else:
        rows = [(one.name, one.kind, ", ".join(one.hosts), one.account) for one in resources]
        print_table(["resource", "kind", "hosts", "account"], rows)


@click.command()
@click.argument("name")
@installation_options
@json_option
def show(name: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Show a resource: its settings without secrets, its routes, and where it has policies."""
    settings = load_settings(config, data)
    found = named_resource(settings, name)
    with closing(open_store(settings)) as store, store.read() as tx:
        policies = resource_policies.list_policies(tx, name)
    if as_json:
        listed = [{"bucket": bucket, "set": format_time(at)} for bucket, at in policies]
        print_json(_facts(found) | {"routes": list(map(_route, found.routes)), "policies": listed})
        return
    print_fields({key: value for key, value in _facts(found).items() if value})
    if found.routes:
        rows = [(", ".join(sorted(one.methods)), _path(one), one.action, one.resource) for one in found.routes]
        print_table(["methods", "path", "action", "resource"], rows)
    if policies:
        print_table(["policy of", "set"], [(bucket or "the resource", format_time(at)) for bucket, at in policies])


def _facts(found: Resource) -> dict[str, Any]:
    backend = found.backend
    facts = {
        "resource": found.name,
        "kind": found.kind.value,
        "hosts": ", ".join(found.hosts),
        "account": found.account,
        "service": found.service,
        "regions": ", ".join(sorted(found.regions or ())) or "any",
        "policy_file": ", ".join(policy.label for policy in found.policy or ()),
        "anonymous": "yes" if found.anonymous else "",
        "browser": found.browser,
        "audit": found.audit.value,
        "backend": f"{backend.endpoint} with the key {backend.access_key_id}" if backend else "",
    }
    return facts | _convention(found)


def _convention(found: Resource) -> dict[str, Any]:
    """Return what requests need that no route describes: those of kind http without routes."""
    if found.kind != "http" or found.routes:
        return {}
    path = f"arn:aws:execute-api:{found.region}:{found.account}:{found.name}/{found.stage}/METHOD/PATH"
    return {"requests_need": f"execute-api:Invoke on {path}"}


def _route(route: Route) -> dict[str, Any]:
    return {
        "methods": sorted(route.methods),
        "path": route.path,
        "action": route.action,
        "resource": route.resource,
        "query": dict(route.query),
        "headers": dict(route.headers),
        "keys": dict(route.keys),
    }


def _path(route: Route) -> str:
    conditions = [f"?{name}={value}" for name, value in route.query.items()]
    conditions += [f"{name}: {value}" for name, value in route.headers.items()]
    return " ".join((route.path, *conditions))
