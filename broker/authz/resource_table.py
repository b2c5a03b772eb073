"""All resources of the settings, and the one that a host name belongs to.

Pure.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from broker.authz.resource import Resource, plain_host

_WILDCARD: Final = "*."


class ResourceTable:
    """The resources by name and by host; a look-up takes the same time however many there are."""

    __slots__ = ("_by_host", "_by_parent", "resources")

    def __init__(self, resources: Mapping[str, Resource]) -> None:
        self.resources = MappingProxyType(dict(resources))
        hosts = {host: resource for resource in resources.values() for host in resource.hosts}
        self._by_host = {host: one for host, one in hosts.items() if not host.startswith(_WILDCARD)}
        self._by_parent = {host[2:]: one for host, one in hosts.items() if host.startswith(_WILDCARD)}

    def find(self, host: str) -> Resource | None:
        """Return the resource of a Host header: by its exact name, else by ``*.`` in place of its first label."""
        name = plain_host(host)
        exact = self._by_host.get(name)
        if exact is not None:
            return exact
        label, _, parent = name.partition(".")
        return self._by_parent.get(parent) if label else None

    def named(self, name: str) -> Resource | None:
        """Return the resource of ``[resource.NAME]``."""
        return self.resources.get(name)
