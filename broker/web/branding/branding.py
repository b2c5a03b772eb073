"""The routes of an organisation's colours and logo, and the template filters that write names and times.

Browsers cache a style sheet or script for a year when its URL has its fingerprint, and revalidate all others.
"""

import hashlib
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal

from babel.dates import format_timedelta
from flask import Blueprint, Flask, Response, abort, request
from flask_babel import format_datetime, get_locale

from broker.web.branding.appearance import Appearance
from broker.web.core.user_agents import client_name
from iam.arn import parse_arn
from iam.clock import from_milliseconds, iso8601

log = logging.getLogger(__name__)

_AN_HOUR = "public, max-age=3600"
_A_YEAR = "public, max-age=31536000, immutable"
_COLOURS = "/brand.css"


def init_branding(app: Flask, look: Appearance) -> None:
    """Add the routes of the organisation's colours and logo, and the template filters."""
    blueprint = Blueprint("brand", __name__)
    fingerprints = {_COLOURS: _fingerprint(look.stylesheet().encode()), **_static_fingerprints(app)}

    @blueprint.get(_COLOURS)
    def colours() -> Response:
        return Response(look.stylesheet(), content_type="text/css; charset=utf-8", headers={"Cache-Control": _AN_HOUR})

    @blueprint.get("/brand/logo")
    def logo() -> Response:
        image = _read_logo(look)
        if image is None:
            abort(404)
        return Response(image[0], content_type=image[1], headers={"Cache-Control": _AN_HOUR})

    @app.after_request
    def set_cache_headers(response: Response) -> Response:
        if request.path in fingerprints and request.args.getlist("v") == [fingerprints[request.path]]:
            response.headers["Cache-Control"] = _A_YEAR
        return response

    app.register_blueprint(blueprint)
    app.add_template_filter(lambda path: f"{path}?v={fingerprints[path]}", "fingerprinted")
    app.add_template_filter(when, "when")
    app.add_template_filter(iso, "iso")
    app.add_template_filter(provider, "provider")
    app.add_template_filter(length_of_time, "length_of_time")
    app.add_template_filter(client_name, "client_name")


def _static_fingerprints(app: Flask) -> Mapping[str, str]:
    """Return the fingerprint of each static file by its path."""
    folder = Path(app.static_folder or "")
    return {f"{app.static_url_path}/{file.name}": _fingerprint(file.read_bytes()) for file in folder.iterdir()}


def _fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _read_logo(look: Appearance) -> tuple[bytes, str] | None:
    try:
        return look.logo()
    except OSError as error:  # deleted since the process started
        log.warning("the logo cannot be read: %s", error)
        return None


def _aware(moment: datetime | int) -> datetime:
    """Return a time that is given as a datetime or in milliseconds since 1970."""
    return moment if isinstance(moment, datetime) else from_milliseconds(moment)


def when(moment: datetime | int) -> str:
    """Return a time in UTC as the reader's language writes it."""
    return f"{format_datetime(_aware(moment), 'medium', rebase=False)} UTC"


def iso(moment: datetime | int) -> str:
    """Return a time in ISO 8601."""
    return iso8601(_aware(moment))


def provider(text: str) -> str:
    """Return the short name of a provider that is given as an ARN or as KIND/NAME; "IAM" without one."""
    arn = parse_arn(text)
    return (arn.resource if arn else text).partition("/")[2] or "IAM"


def length_of_time(seconds: int) -> str:
    """Return a number of seconds in whole hours, or else in minutes, in the reader's language."""
    return _length(seconds, str(get_locale()))


@lru_cache(1000)
def _length(seconds: int, locale: str) -> str:
    unit: Literal["hour", "minute"] = "hour" if seconds % 3600 == 0 else "minute"
    # The threshold keeps 24 hours from being a day; units by themselves lack a name in Japanese.
    return format_timedelta(timedelta(seconds=seconds), granularity=unit, threshold=10_000, locale=locale)
