"""The services that policies can be about: AWS's, and those that the routes of the settings define."""

from collections.abc import Iterable, Mapping

from broker.authz.resource import Resource
from iam.service_data import ServiceData


class KnownServices:
    """Data about services, for the checks of policies; what a route defines is known like an action of AWS."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        routes = [route for resource in resources for route in resource.routes]
        self._aws = ServiceData()
        self._keys = {key for route in routes for key in route.keys}
        self._actions: dict[str, dict[str, str]] = {}
        for route in routes:
            service, _, name = route.action.partition(":")
            self._actions.setdefault(service, {})[name.lower()] = name

    def has_service(self, name: str) -> bool:
        """Return whether AWS or a route has a service of this name."""
        return name.lower() in self._actions or self._aws.has_service(name)

    def actions(self, service: str) -> Mapping[str, str]:
        """Return the actions of a service: names in lower case, mapped to the names as they are written."""
        return {**self._aws.actions(service), **self._actions.get(service.lower(), {})}

    def key_type(self, key: str) -> str | None:
        """Return the type of a condition key, or None for a key that no request has."""
        return "String" if key.lower() in self._keys else self._aws.key_type(key)

    def is_multivalued(self, key: str) -> bool | None:
        """Return whether a condition key is multivalued; None where it is not known."""
        return False if key.lower() in self._keys else self._aws.is_multivalued(key)
