"""What to ask well-known sign-in providers for, and what their administrators must set.

From their own documentation: Entra ID "Scopes and permissions in the Microsoft identity platform" and "Configure group
claims"; Google "OpenID Connect"; Okta "Customize tokens returned from Okta with a Groups claim"; Keycloak "Server
Administration Guide"; GitHub "Scopes for OAuth apps".
"""

import re
from dataclasses import dataclass

# The kinds of provider: each has a client of its own, which the wiring names.
OIDC, GITHUB = "oidc", "github"


@dataclass(frozen=True, slots=True)
class Preset:
    """The settings for one provider: its issuers (a pattern of the URL without https), scopes, and a set-up hint."""

    issuers: re.Pattern[str]
    scopes: str
    name: str | None = None
    kind: str = OIDC
    setup_hint: str = ""


PRESETS = {
    "generic": Preset(re.compile(r"(?!github\.com$).+"), "openid profile email"),
    "entra": Preset(
        re.compile(
            r"login\.(microsoftonline\.com|microsoftonline\.us|partner\.microsoftonline\.cn)/[0-9a-f-]{36}/v2\.0"
        ),
        "openid profile email offline_access",
        "Microsoft Entra ID",
        setup_hint="Token configuration: add a groups claim, of groups assigned to the application.",
    ),
    "google": Preset(
        re.compile(r"accounts\.google\.com"),
        "openid profile email",
        "Google",
        setup_hint="Google tells no groups: let trust policies ask for accounts.google.com:hd, your Workspace domain.",
    ),
    "okta": Preset(
        re.compile(r"[^/]+(/oauth2/[0-9A-Za-z]+)?"),
        "openid profile email groups offline_access",
        "Okta",
        setup_hint="Sign On: a groups claim filter; General: the grant type Refresh Token.",
    ),
    "keycloak": Preset(
        re.compile(r".+/realms/[^/]+"),
        "openid profile email",
        setup_hint="Client scopes: mapper Group Membership, full path off. Set: Backchannel logout session required.",
    ),
    "github": Preset(
        re.compile(r"github\.com"),
        "read:org",
        "GitHub",
        GITHUB,
        "An organisation that restricts OAuth apps must approve this one.",
    ),
}
