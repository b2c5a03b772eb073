"""A configuration that would be unsafe or could not work is refused when it is made."""

import pytest

from broker.providers.ldap.config import LdapConfig

WRONG = {
    "beyond this machine": {"urls": ("ldap://directory.example",)},
    "not an LDAP URL": {"urls": ("https://directory.example",)},
    "scheme and host alone": {"urls": ("ldaps://directory.example/dc=example",)},
    "at least one": {"urls": ()},
    "{username}": {"user_filter": "(uid=alice)"},
    "{dn} or {username}": {"group_base": "ou=groups,dc=x", "group_filter": "(cn=a)"},
    "needed with bind_dn": {"bind_dn": "cn=fedgate,dc=x"},
    "above zero": {"receive_timeout": 0},
    "letters, digits": {"name": "a/b"},
    "must begin with https://": {"password_change_url": "http://id.example/new"},
}


@pytest.mark.parametrize(("sentence", "changes"), WRONG.items())
def test_an_unsafe_configuration_is_refused(sentence, changes):
    settings = {"name": "corp", "urls": ("ldaps://directory.example",), "user_base": "dc=x"}
    with pytest.raises(ValueError, match=sentence.replace("{", r"\{")):
        LdapConfig(**{**settings, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"urls": ("ldaps://directory.example", "ldaps://[2001:db8::1]:1636")},
        {"urls": ("ldap://directory.example",), "start_tls": True},
        {"urls": ("ldap://127.0.0.1:3389",)},
        {"urls": ("ldap://[::1]",)},
        {"urls": ("ldapi://%2Frun%2Fslapd",)},
    ],
)
def test_a_safe_configuration_is_taken(changes):
    config = LdapConfig(**{"name": "corp", "user_base": "dc=x", **changes})
    assert config.provider == "ldap-provider/corp"


@pytest.mark.parametrize(
    "url", ["ldap://127.0.0.1.evil.example", "ldap://localhost.evil.example", "ldap://127.evil.example"]
)
def test_a_name_that_only_looks_like_loopback_is_not(url):
    with pytest.raises(ValueError, match="beyond this machine"):
        LdapConfig(name="corp", urls=(url,), user_base="dc=x")


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "//id.example", "https://", "http://localhost.evil.example", "x"]
)
def test_a_place_to_change_passwords_that_is_not_safe_is_refused(url):
    with pytest.raises(ValueError, match="password_change_url"):
        LdapConfig(name="corp", urls=("ldap://127.0.0.1",), user_base="dc=x", password_change_url=url)


@pytest.mark.parametrize("url", ["", "https://id.example/new?a=b", "http://localhost:8080/new", "http://127.0.0.1"])
def test_passwords_are_changed_here_unless_there_is_another_place_or_none(url):
    config = LdapConfig(name="corp", urls=("ldap://127.0.0.1",), user_base="dc=x", password_change_url=url)
    assert config.changes_passwords is not bool(url)
    assert not LdapConfig(name="c", urls=config.urls, user_base="dc=x", password_change=False).changes_passwords


def test_the_bind_password_is_not_printed():
    config = LdapConfig(
        name="corp", urls=("ldap://127.0.0.1",), user_base="dc=x", bind_dn="cn=f", bind_password="s3cret-of-fedgate"
    )
    assert "s3cret-of-fedgate" not in repr(config)
