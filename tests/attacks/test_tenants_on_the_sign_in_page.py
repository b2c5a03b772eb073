"""A tenant tries to own the sign-in page that all accounts share, with providers of its own account."""

from support.broker_process import NO_PROXY, Broker, fetch
from support.saml_idp import metadata

NAMES = ("000", "Okta", "Corp SSO", "zzz")


def test_providers_of_a_tenant_neither_show_on_the_shared_page_nor_catch_links_by_name(served: Broker):
    iam = served.client("iam")
    before = fetch(f"{served.endpoint}/login").body.decode()
    document = metadata(entity_id="https://evil.example")
    names = [name.replace(" ", "-") for name in NAMES]
    for name in names:
        iam.create_saml_provider(Name=name, SAMLMetadataDocument=document)
    try:
        page = fetch(f"{served.endpoint}/login").body.decode()
        assert page.count("Continue with") == before.count("Continue with")
        assert not [name for name in names if f"Continue with {name}" in page]
        assert "123456789012" not in page
        for name in names:
            with NO_PROXY.open(f"{served.endpoint}/login?idp={name}") as answer:
                assert "/saml/" not in answer.url
        as_json = fetch(f"{served.endpoint}/portal?format=json").body.decode()
        assert "123456789012" not in as_json
    finally:
        for name in names:
            iam.delete_saml_provider(SAMLProviderArn=f"arn:aws:iam::123456789012:saml-provider/{name}")
