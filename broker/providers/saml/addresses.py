"""The URLs of our SAML service providers: one for each identity provider, below the public URL of the installation.

Pure. Each has an entity ID and addresses of its own, so that a response made for one is refused by all others: two
accounts may have the same identity provider, or different ones by the same name.
"""

import re
from dataclasses import dataclass

# IAM User Guide, "Configure SAML assertions for the authentication response"; "AWS Sign-In endpoints and quotas".
_AWS_NAMES = frozenset(
    {"urn:amazon:webservices", "urn:amazon:webservices:govcloud", "urn:amazon:webservices:cn-north-1"}
)
_AWS_SIGN_IN = re.compile(
    r"https://(?:[a-z0-9-]{1,40}\.)?signin\.(?:aws\.amazon\.com|amazonaws-us-gov\.com|amazonaws\.cn)/saml"
    r"(?:/acs/[A-Za-z0-9]{1,64})?",
    re.ASCII,
)


def is_aws_sign_in(address: str) -> bool:
    """Return whether AWS takes SAML responses at an address: existing applications for AWS are sent there."""
    return _AWS_SIGN_IN.fullmatch(address) is not None


def is_aws(name: str) -> bool:
    """Return whether a name is one under which applications for AWS are registered with identity providers."""
    return name in _AWS_NAMES or is_aws_sign_in(name)


@dataclass(frozen=True, slots=True)
class ServiceProviderUrls:
    """The addresses of the service provider that stands for one identity provider."""

    public_url: str
    account_id: str
    name: str

    @property
    def base(self) -> str:
        """Return the URL with which all of them begin."""
        return f"{self.public_url}/saml/{self.account_id}/{self.name}"

    @property
    def entity_id(self) -> str:
        """Return the service provider's entity ID, which is the URL of its metadata."""
        return f"{self.base}/metadata"

    @property
    def acs(self) -> str:
        """Return where responses are posted to."""
        return f"{self.base}/acs"

    @property
    def login(self) -> str:
        """Return where a sign-in begins."""
        return f"{self.base}/login"

    @property
    def logout(self) -> str:
        """Return where messages of single logout go."""
        return f"{self.base}/slo"
