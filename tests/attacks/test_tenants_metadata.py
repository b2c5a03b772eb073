"""A tenant stores as much SAML metadata as it may, to keep every worker busy with it."""

from support.broker_process import Broker, error_code
from support.saml_idp import metadata

MEGABYTES = "<!--" + "x" * 4_000_000 + "-->"


def test_metadata_of_an_account_is_bounded_and_the_others_are_served(served: Broker):
    iam, document = served.client("iam"), metadata(more=MEGABYTES)
    names = [f"big{number}" for number in range(3)]
    try:
        codes = [error_code(iam.create_saml_provider, Name=name, SAMLMetadataDocument=document) for name in names]
        assert codes == ["", "", "LimitExceeded"]
        assert served.sign_in("alice", "Administrator").status == 200
    finally:
        for name in names[:2]:
            iam.delete_saml_provider(SAMLProviderArn=f"arn:aws:iam::123456789012:saml-provider/{name}")
