"""The client of OpenID Connect providers by itself: no Flask, no sockets, a clock that stands still."""

import base64
import hashlib
import json
import urllib.parse
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from support.oidc_issuer import Issuer, b64

from broker.providers.oidc.client import OidcClient
from broker.providers.oidc.github import GitHubClient
from broker.providers.oidc.key_sets import JwksCache
from broker.providers.oidc.relying_party import AuthorizationRequest, BackChannelLogout
from broker.runtime.fetch import FetchError
from iam.errors import ExpiredTokenException, IDPCommunicationError, InvalidIdentityToken
from iam.store.records import OidcProviderRecord, SignInClient

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOST = "https://id.example.com"
REQUEST = AuthorizationRequest("https://us.example.com/callback", "state-1", "nonce-1", "verifier-1" * 5, "ann@corp")
EVENT = {"http://schemas.openid.net/event/backchannel-logout": {}}


@dataclass
class Documents:
    """What is at which address: a stand-in for both the web server of an issuer and the fetcher that asks it.

    ``posted`` is the form and the headers of each POST.
    """

    at: dict = field(default_factory=dict)
    posted: list = field(default_factory=list)
    accounts: set = field(default_factory=set)

    def url(self, path=""):
        return f"{HOST}{path}"

    def serve(self, path, body):
        self.at[self.url(path)] = body

    def on_behalf_of(self, account_id):
        self.accounts.add(account_id)
        return self

    def get(self, url, **_headers):
        return self._answer(url)

    def post(self, url, form, **headers):
        self.posted.append((dict(form), headers))
        return self._answer(url)

    def _answer(self, url):
        answer = self.at.get(url, 404)
        if isinstance(answer, int):
            raise FetchError(f"the answer has status {answer}", answer)
        return answer


@pytest.fixture
def documents():
    return Documents()


@pytest.fixture
def issuer(documents):
    made = Issuer(documents, lambda: NOW)
    publish(made)
    return made


@pytest.fixture
def client(documents):
    return OidcClient(JwksCache(documents, monotonic=lambda: 0.0), documents, timedelta(seconds=60))


@pytest.fixture
def provider():
    registration = SignInClient("web app", "s3cret:&", "openid profile", "Corporate ID", "oidc")
    url = HOST.removeprefix("https://")
    arn = f"arn:aws:iam::111122223333:oidc-provider/{url}"
    return OidcProviderRecord("OIDC1", "111122223333", url, arn, frozenset(), use_once=False, sign_in=registration)


def publish(issuer, **more):
    ends = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "userinfo_endpoint": "/userinfo",
            "end_session_endpoint": "/end?hint=1"}  # fmt: skip
    issuer.publish(**{name: HOST + path for name, path in ends.items()} | more)


def answers(documents, issuer, userinfo=None, **changes):
    """Serve a token response; a member that is None is left out."""
    id_token = issuer.token(**{"aud": "web app", "nonce": "nonce-1", "sid": "s1"} | changes.pop("claims", {}))
    response = {"id_token": id_token, "access_token": "access", "refresh_token": "refresh-1"} | changes
    given = {name: value for name, value in response.items() if value is not None}
    documents.serve("/token", json.dumps(given).encode())
    documents.serve("/userinfo", json.dumps(userinfo or {"sub": "user-1", "groups": ["sales"]}).encode())


# --- to the provider --------------------------------------------------------------------------------------------------


def test_the_authorization_request_has_state_nonce_and_the_hash_of_the_verifier(client, provider, issuer):
    address, _, query = client.authorization_url(provider, REQUEST).partition("?")
    assert address == f"{issuer.url}/authorize"
    challenge = b64(hashlib.sha256(REQUEST.code_verifier.encode()).digest())
    assert dict(urllib.parse.parse_qsl(query)) == {
        "response_type": "code", "client_id": "web app", "redirect_uri": REQUEST.redirect_uri,
        "scope": "openid profile", "state": "state-1", "nonce": "nonce-1", "code_challenge": challenge,
        "code_challenge_method": "S256", "login_hint": "ann@corp",
    }  # fmt: skip


def test_secrets_of_a_request_are_not_printed():
    assert "nonce-1" not in repr(REQUEST)
    assert "verifier-1" not in repr(REQUEST)


def test_an_issuer_with_a_slash_at_its_end_is_found(client, provider, documents):
    publish(Issuer(documents, lambda: NOW, "/", url=f"{HOST}/"))
    documents.at[f"{HOST}/.well-known/openid-configuration"] = documents.at.pop(
        f"{HOST}//.well-known/openid-configuration"
    )
    client.check_issuer(provider, f"{HOST}/")
    with pytest.raises(InvalidIdentityToken):
        client.check_issuer(provider, HOST)


@pytest.mark.parametrize(
    ("promised", "given", "accepted"),
    [(True, HOST, True), (True, None, False), (True, "", False), (None, None, True), (None, "", False),
     (None, "https://evil.example", False), (None, HOST, True)],
)  # fmt: skip
def test_a_response_of_another_issuer_is_refused(client, provider, issuer, promised, given, accepted):
    publish(issuer, authorization_response_iss_parameter_supported=promised)
    if accepted:
        client.check_issuer(provider, given)
    else:
        with pytest.raises(InvalidIdentityToken, match="another provider"):
            client.check_issuer(provider, given)


# --- back from it -----------------------------------------------------------------------------------------------------


def test_a_code_becomes_an_identity_with_the_claims_of_both_documents(client, provider, issuer, documents):
    answers(documents, issuer, claims={"preferred_username": "ann", "department": "sales"},
            userinfo={"sub": "user-1", "department": "other", "groups": ["staff"]})  # fmt: skip
    result = client.redeem_code(provider, "code-1", REQUEST, NOW)
    assert documents.accounts == {provider.account_id}
    identity = result.identity
    assert (identity.provider, identity.subject, identity.name) == (provider.arn, "user-1", "ann")
    assert (identity.account_id, identity.audience, identity.session_index) == ("111122223333", "web app", "s1")
    assert identity.attributes["department"] == ("sales",)  # the ID token wins
    assert identity.attributes["groups"] == ("staff",)
    assert result.refresh_token == "refresh-1"
    assert "refresh-1" not in repr(result)
    form, headers = documents.posted[0]
    assert form == {"grant_type": "authorization_code", "code": "code-1", "redirect_uri": REQUEST.redirect_uri,
                    "code_verifier": REQUEST.code_verifier}  # fmt: skip
    pair = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode()
    assert [urllib.parse.unquote(part) for part in pair.split(":")] == ["web app", "s3cret:&"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"claims": {"nonce": "other"}}, "nonce"),
        ({"claims": {"nonce": None}}, "nonce"),
        ({"claims": {"nonce": 5}}, "nonce"),
        ({"claims": {"iss": "https://evil.example"}}, "another issuer"),
        ({"claims": {"aud": "mobile"}}, "audience"),
        ({"claims": {"at_hash": "x"}}, "access token"),
        ({"userinfo": {"sub": "user-2"}}, "somebody else"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(client, provider, issuer, documents, changes, message):
    answers(documents, issuer, **changes)
    with pytest.raises(InvalidIdentityToken, match=message):
        client.redeem_code(provider, "code-1", REQUEST, NOW)


def test_a_token_that_expired_is_refused(client, provider, issuer, documents):
    answers(documents, issuer)
    with pytest.raises(ExpiredTokenException):
        client.redeem_code(provider, "code-1", REQUEST, NOW + timedelta(minutes=12))


@pytest.mark.parametrize(("status", "error"), [(400, InvalidIdentityToken), (401, InvalidIdentityToken),
                                               (500, IDPCommunicationError), (302, IDPCommunicationError)])  # fmt: skip
@pytest.mark.usefixtures("issuer")
def test_a_refused_code_is_told_from_a_provider_out_of_order(client, provider, documents, status, error):
    documents.serve("/token", status)
    with pytest.raises(error):
        client.redeem_code(provider, "code-1", REQUEST, NOW)


@pytest.mark.parametrize("secret", ["s3cret", None])
def test_the_client_authenticates_in_the_form_where_it_must(client, provider, issuer, documents, secret):
    publish(issuer, token_endpoint_auth_methods_supported=["client_secret_post"])
    answers(documents, issuer)
    registered = replace(provider, sign_in=replace(provider.sign_in, secret=secret))
    client.redeem_code(registered, "code-1", REQUEST, NOW)
    form, headers = documents.posted[0]
    assert (form["client_id"], form.get("client_secret"), headers) == ("web app", secret, {})


# --- refresh ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def identity(client, provider, issuer, documents):
    answers(documents, issuer, claims={"department": "sales"})
    return client.redeem_code(provider, "code-1", REQUEST, NOW).identity


@pytest.fixture
def refresh(client, provider, identity):
    return lambda: client.refresh(provider, identity, "refresh-1", NOW)


def test_a_refresh_without_id_token_drops_what_userinfo_no_longer_says(refresh, issuer, documents):
    answers(documents, issuer, id_token=None, refresh_token=None, userinfo={"sub": "user-1", "groups": ["staff"]})
    result = refresh()
    assert result.refresh_token == ""
    assert "department" not in result.identity.attributes
    assert (result.identity.attributes["groups"], result.identity.attributes["sid"]) == (("staff",), ("s1",))
    assert documents.posted[-1][0] == {"grant_type": "refresh_token", "refresh_token": "refresh-1"}


def test_a_refresh_with_an_id_token_takes_its_claims(refresh, issuer, documents):
    answers(documents, issuer, claims={"department": "support"}, refresh_token="refresh-2")
    result = refresh()
    assert (result.identity.attributes["department"], result.refresh_token) == (("support",), "refresh-2")


def test_a_refused_refresh_is_none_and_not_an_error(refresh, documents):
    documents.serve("/token", 400)
    assert refresh() is None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"claims": {"sub": "user-2"}}, InvalidIdentityToken),
        ({"userinfo": {"sub": "user-2"}}, InvalidIdentityToken),
        ({"access_token": None}, IDPCommunicationError),
        ({"token_type": "DPoP"}, IDPCommunicationError),
    ],
)
def test_a_refresh_about_somebody_else_or_of_nothing_is_an_error(refresh, issuer, documents, changes, error):
    answers(documents, issuer, **changes)
    with pytest.raises(error):
        refresh()


@pytest.mark.parametrize("kind", ["bearer", "BEARER", None])
def test_an_access_token_for_its_bearer_is_used(refresh, issuer, documents, kind):
    answers(documents, issuer, token_type=kind)
    assert refresh().identity.subject == "user-1"


# --- logout -----------------------------------------------------------------------------------------------------------


def test_the_logout_address_keeps_its_own_query(client, provider, issuer):
    address, _, query = client.logout_url(provider, "https://us.example.com/out").partition("?")
    assert address == f"{issuer.url}/end"
    assert dict(urllib.parse.parse_qsl(query)) == {
        "hint": "1", "client_id": "web app", "post_logout_redirect_uri": "https://us.example.com/out"}  # fmt: skip


def test_a_provider_without_logout_or_out_of_reach_has_no_address(client, provider, issuer, documents):
    publish(issuer, end_session_endpoint=None)
    assert client.logout_url(provider, "https://us.example.com/out") is None
    documents.at.clear()
    unreachable = OidcClient(JwksCache(documents, monotonic=lambda: 0.0), documents, client.skew)
    assert unreachable.logout_url(provider, "https://us.example.com/out") is None


def logout_token(issuer, **changes):
    claims = {"aud": "web app", "events": EVENT, "jti": "j1", "sid": "s1"} | changes
    return issuer.token(header={"typ": "logout+jwt"}, **claims)


@pytest.mark.parametrize("exp", [{}, {"exp": None}])
def test_a_logout_token_names_a_session_and_counts_once_until(client, provider, issuer, exp):
    token = client.verify_logout_token(provider, logout_token(issuer, **exp), NOW)
    assert (token.id, token.subject, token.session_index) == ("j1", "user-1", "s1")
    assert token.usable_until == NOW + timedelta(minutes=6)


@pytest.mark.parametrize("changes", [{"events": {}}, {"events": []}, {"nonce": "n"}, {"jti": None}, {"jti": 5},
                                     {"aud": "mobile"}, {"events": None}])  # fmt: skip
def test_what_is_no_logout_token_is_refused(client, provider, issuer, changes):
    with pytest.raises(InvalidIdentityToken):
        client.verify_logout_token(provider, logout_token(issuer, **changes), NOW)


def test_an_old_logout_token_is_refused_though_it_has_not_expired(client, provider, issuer):
    text = logout_token(issuer)
    with pytest.raises(ExpiredTokenException, match="too old"):
        client.verify_logout_token(provider, text, NOW + timedelta(minutes=5, seconds=1))


# --- the second client ------------------------------------------------------------------------------------------------


@pytest.fixture
def github(documents):
    documents.serve("/login/oauth/access_token", json.dumps({"access_token": "gho_x", "scope": "read:org"}).encode())
    for path, value in {
        "/user": {"id": 583231, "login": "octocat", "email": None},
        "/user/orgs?per_page=100&page=1": [{"login": "octo-org"}],
        "/user/teams?per_page=100&page=1": [{"slug": "deployers", "organization": {"login": "octo-org"}}],
    }.items():
        documents.serve(path, json.dumps(value).encode())
    return GitHubClient(documents, HOST, HOST)


@pytest.fixture
def at_github(provider):
    return replace(provider, url="github.com", sign_in=replace(provider.sign_in, scopes="read:org", kind="github"))


def test_github_gives_an_identity_by_number_with_teams(github, at_github):
    result = github.redeem_code(at_github, "code-1", REQUEST, NOW)
    identity = result.identity
    assert (identity.subject, identity.name, identity.authenticated_at) == ("583231", "octocat", NOW)
    assert identity.attributes["teams"] == ("octo-org/deployers",)
    assert result.refresh_token == ""
    assert github.refresh(at_github, identity, "", NOW).identity == identity


def test_github_without_the_scope_is_not_asked_for_teams(github, at_github, documents):
    documents.serve("/login/oauth/access_token", json.dumps({"access_token": "gho_x", "scope": "gist"}).encode())
    without_teams = replace(at_github, sign_in=replace(at_github.sign_in, scopes="gist"))
    assert "teams" not in github.redeem_code(without_teams, "code-1", REQUEST, NOW).identity.attributes
    with pytest.raises(InvalidIdentityToken, match="organisations and teams"):
        github.redeem_code(at_github, "code-1", REQUEST, NOW)  # the person has taken the scope away


def test_github_need_not_name_its_issuer_and_has_no_logout(github, at_github):
    github.check_issuer(at_github, None)
    github.check_issuer(at_github, "https://github.com")
    with pytest.raises(InvalidIdentityToken):
        github.check_issuer(at_github, "https://evil.example")
    assert github.logout_url(at_github, "https://us.example.com/out") is None
    assert not isinstance(github, BackChannelLogout)
    assert github.authorization_url(at_github, REQUEST).startswith(f"{HOST}/login/oauth/authorize?")
