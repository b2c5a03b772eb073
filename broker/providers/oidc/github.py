"""Sign-in through GitHub, which speaks OAuth for people and no OpenID Connect: its API is asked who somebody is.

Source: GitHub Docs, "Authorizing OAuth apps" and "REST API endpoints for users". The numeric id is the subject; it
never passes to somebody else, as a login may.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker.runtime.fetch import Fetcher, FetchError
from iam.errors import IDPCommunicationError, InvalidIdentityToken
from iam.policy.strict_json import Number, load

_PAGE, _MOST_PAGES = 100, 10
_AWAY = "GitHub cannot be asked now. Try again later."


@dataclass(frozen=True, slots=True)
class GitHub:
    """Asks GitHub; ``url`` is where people sign in, ``api_url`` where programs ask."""

    fetcher: Fetcher
    url: str
    api_url: str

    @property
    def authorization_endpoint(self) -> str:
        """Return where people sign in."""
        return f"{self.url}/login/oauth/authorize"

    def claims(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Trade a code and return what GitHub says of the person, as claims; raise InvalidIdentityToken and its kin."""
        answer = self._object(lambda: self.fetcher.post(f"{self.url}/login/oauth/access_token", form))
        token, scopes = answer.get("access_token"), str(answer.get("scope", "")).replace(" ", ",").split(",")
        if not isinstance(token, str) or isinstance(token, Number) or not token:
            raise InvalidIdentityToken("The provider refused the code.", log=f"{answer.get('error')!s:.100}")
        person = self._get("/user", token)
        if not isinstance(person, dict) or not isinstance(person.get("id"), Number):
            raise IDPCommunicationError(_AWAY, log="/user has no id")
        claims = {name: person[name] for name in ("login", "name", "email") if isinstance(person.get(name), str)}
        claims |= {"sub": str(person["id"]), "preferred_username": str(person.get("login", person["id"]))}
        if {"read:org", "user"} & set(scopes):
            claims |= self._groups(token)
        return claims

    def _groups(self, token: str) -> dict[str, list[str]]:
        """Return organisations by name, and teams as ``organisation/team``."""
        orgs, teams = self._all("/user/orgs", token), self._all("/user/teams", token)
        try:
            return {
                "orgs": [str(one["login"]) for one in orgs],
                "teams": [f"{one['organization']['login']}/{one['slug']}" for one in teams],
            }
        except (KeyError, TypeError) as error:
            raise IDPCommunicationError(_AWAY, log="an organisation or a team without a name") from error

    def _all(self, path: str, token: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for number in range(1, _MOST_PAGES + 1):
            page = self._get(f"{path}?per_page={_PAGE}&page={number}", token)
            if not isinstance(page, list):
                raise IDPCommunicationError(_AWAY, log=f"{path} is no list")
            found += page
            if len(page) < _PAGE:
                return found
        raise IDPCommunicationError("GitHub lists more than can be read.", log=path)

    def _get(self, path: str, token: str) -> Any:  # noqa: ANN401 - JSON
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
        return self._load(lambda: self.fetcher.get(f"{self.api_url}{path}", **headers))

    def _object(self, ask: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a question
        found = self._load(ask)
        if not isinstance(found, dict):
            raise IDPCommunicationError(_AWAY, log="no JSON object")
        return found

    def _load(self, ask: Any) -> Any:  # noqa: ANN401 - as above
        try:
            return load(ask().decode("utf-8"))
        except FetchError as error:
            if error.status in (400, 401):
                raise InvalidIdentityToken("The provider refused the code.", log=str(error)) from error
            raise IDPCommunicationError(_AWAY, log=str(error)) from error
        except (ValueError, RecursionError) as error:
            raise IDPCommunicationError(_AWAY, log="not JSON") from error
