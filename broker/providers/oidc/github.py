"""The client of GitHub, which speaks OAuth for people and no OpenID Connect: its API is asked who somebody is.

Source: GitHub Docs, "Authorizing OAuth apps" and "REST API endpoints for users". The numeric id is the subject: a login
can be given up, and then belongs to whoever takes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from broker.providers.oidc import relying_party
from broker.providers.oidc.relying_party import AuthorizationRequest, SignInResult, sign_in_client
from broker.runtime.fetch import Fetcher, FetchError
from iam.errors import IDPCommunicationError, InvalidIdentityToken
from iam.policy.strict_json import Number, load
from iam.store.records import OidcProviderRecord
from sts.federation.web_identity import claim_values
from sts.identity import WebIdentity

_ISSUER = "https://github.com"
_PAGE, _MAX_PAGES = 100, 10  # entries of a page, the most that GitHub gives; a person in 1000 teams is refused
_UNAVAILABLE = "GitHub cannot be asked now. Try again later."
_LISTS_GROUPS = {"read:org", "user"}  # scopes of which either lets the API list organisations and teams


@dataclass(frozen=True, slots=True)
class GitHubClient:
    """Asks GitHub; ``url`` is where people sign in, ``api_url`` where programs ask."""

    fetcher: Fetcher
    url: str
    api_url: str

    def authorization_url(self, provider: OidcProviderRecord, request: AuthorizationRequest) -> str:
        """Return where to send a browser that is to sign in."""
        endpoint = f"{self.url}/login/oauth/authorize"
        return relying_party.authorization_url(endpoint, sign_in_client(provider), request)

    def check_issuer(self, _provider: OidcProviderRecord, issuer: str | None) -> None:
        """Raise InvalidIdentityToken where the response names another issuer; it need not name one."""
        if issuer not in (None, _ISSUER):
            raise InvalidIdentityToken("The answer is of another provider than the one that was asked.")

    def redeem_code(
        self, provider: OidcProviderRecord, code: str, request: AuthorizationRequest, now: datetime
    ) -> SignInResult:
        """Return who signed in; raise InvalidIdentityToken, IDPCommunicationError."""
        client = sign_in_client(provider)
        form = {
            "client_id": client.client_id,
            "client_secret": client.secret or "",
            "code": code,
            "redirect_uri": request.redirect_uri,
            "code_verifier": request.code_verifier,
        }
        token, scopes = self._request_token(form)
        if _LISTS_GROUPS & set(client.scopes.split()) and not _LISTS_GROUPS & scopes:
            # A Deny for an organisation or a team would not hold (THREATS J12).
            raise InvalidIdentityToken("You must let GitHub tell your organisations and teams.", log="narrowed scopes")
        claims = self._claims(token, scopes)
        identity = WebIdentity(
            provider=provider.arn,
            subject=claims["sub"],
            name=claims["preferred_username"],
            authenticated_at=now,
            attributes=claim_values(claims),
            account_id=provider.account_id,
            provider_id=provider.id,
            issuer=_ISSUER,
            key_prefix=provider.url,
            audience=client.client_id,
            audiences=(client.client_id,),
        )
        return SignInResult(identity)

    def refresh(
        self, _provider: OidcProviderRecord, identity: WebIdentity, _refresh_token: str, _now: datetime
    ) -> SignInResult | None:
        """Return the person as they are: GitHub gives OAuth apps no refresh tokens."""
        return SignInResult(identity)

    def logout_url(self, _provider: OidcProviderRecord, _return_to: str) -> str | None:
        """Return None: GitHub has no logout for other sites."""
        return None

    # --- asking GitHub ------------------------------------------------------------------------------------------------

    def _request_token(self, form: Mapping[str, str]) -> tuple[str, set[str]]:
        """Return the access token for a code, and its scopes, which the person may have narrowed."""
        response = _load(lambda: self.fetcher.post(f"{self.url}/login/oauth/access_token", form))
        if not isinstance(response, dict):
            raise IDPCommunicationError(_UNAVAILABLE, log="no JSON object")
        token = response.get("access_token")
        # GitHub answers a bad code with status 200 and a member "error".
        if not isinstance(token, str) or isinstance(token, Number) or not token:
            raise InvalidIdentityToken("The provider rejected the code.", log=f"{response.get('error')!s:.100}")
        relying_party.check_token_type(response)
        return token, set(str(response.get("scope", "")).replace(" ", ",").split(","))

    def _claims(self, token: str, scopes: set[str]) -> dict[str, Any]:
        """Return what GitHub says of the person, as claims of OpenID Connect and three of our own."""
        user = self._get("/user", token)
        if not isinstance(user, dict) or not isinstance(user.get("id"), Number):
            raise IDPCommunicationError(_UNAVAILABLE, log="/user has no id")
        claims = {name: user[name] for name in ("login", "name", "email") if isinstance(user.get(name), str)}
        claims |= {"sub": str(user["id"]), "preferred_username": str(user.get("login", user["id"]))}
        return claims | (self._groups(token) if _LISTS_GROUPS & scopes else {})

    def _groups(self, token: str) -> dict[str, list[str]]:
        """Return organisations by name, and teams as ``organisation/team``."""
        organisations, teams = self._get_all("/user/orgs", token), self._get_all("/user/teams", token)
        try:
            return {
                "orgs": [str(organisation["login"]) for organisation in organisations],
                "teams": [f"{team['organization']['login']}/{team['slug']}" for team in teams],
            }
        except (KeyError, TypeError) as error:
            raise IDPCommunicationError(_UNAVAILABLE, log="an organisation or a team without a name") from error

    def _get_all(self, path: str, token: str) -> list[dict[str, Any]]:
        """Return all pages of a list; half a list of groups would be a wrong answer, so too many are refused."""
        entries: list[dict[str, Any]] = []
        for number in range(1, _MAX_PAGES + 1):
            page = self._get(f"{path}?per_page={_PAGE}&page={number}", token)
            if not isinstance(page, list):
                raise IDPCommunicationError(_UNAVAILABLE, log=f"{path} is no list")
            entries += page
            if len(page) < _PAGE:
                return entries
        raise IDPCommunicationError("GitHub lists more than can be read.", log=path)

    def _get(self, path: str, token: str) -> Any:  # noqa: ANN401 - JSON
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
        return _load(lambda: self.fetcher.get(f"{self.api_url}{path}", **headers))


def _load(fetch: Callable[[], bytes]) -> Any:  # noqa: ANN401 - JSON
    try:
        return load(fetch().decode("utf-8"))
    except FetchError as error:
        if error.status in (400, 401):
            raise InvalidIdentityToken("The provider rejected the code.", log=str(error)) from error
        raise IDPCommunicationError(_UNAVAILABLE, log=str(error)) from error
    except (ValueError, RecursionError) as error:
        raise IDPCommunicationError(_UNAVAILABLE, log="not JSON") from error
