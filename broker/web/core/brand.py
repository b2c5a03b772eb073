"""What every page needs of the organisation and the reader: colours, logo, and how names and times are written.

A style sheet or script that a page asks for by its fingerprint is kept for a year; others are asked for each time.
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

from broker.web.core.appearance import Appearance
from broker.web.core.user_agents import client_name
from iam.arn import parse_arn
from iam.clock import from_milliseconds, iso8601

log = logging.getLogger(__name__)

_AN_HOUR = "public, max-age=3600"
_A_YEAR = "public, max-age=31536000, immutable"
_COLOURS = "/brand.css"


def init_branding(app: Flask, look: Appearance) -> None:
    """Add the routes of an organisation's looks, and the filters that templates write with."""
    made = Blueprint("brand", __name__)
    marks = {_COLOURS: _fingerprint(look.stylesheet().encode()), **_static(app)}

    @made.get(_COLOURS)
    def colours() -> Response:
        return Response(look.stylesheet(), content_type="text/css; charset=utf-8", headers={"Cache-Control": _AN_HOUR})

    @made.get("/brand/logo")
    def logo() -> Response:
        found = _logo(look)
        if found is None:
            abort(404)
        return Response(found[0], content_type=found[1], headers={"Cache-Control": _AN_HOUR})

    @app.after_request
    def set_cache_headers(response: Response) -> Response:
        if request.path in marks and request.args.get("v") == marks[request.path]:
            response.headers["Cache-Control"] = _A_YEAR
        return response

    app.register_blueprint(made)
    app.add_template_filter(lambda path: f"{path}?v={marks[path]}", "fingerprinted")
    app.add_template_filter(when, "when")
    app.add_template_filter(iso, "iso")
    app.add_template_filter(provider, "provider")
    app.add_template_filter(length_of_time, "length_of_time")
    app.add_template_filter(client_name, "client_name")


def _static(app: Flask) -> Mapping[str, str]:
    """Return the fingerprint of each file that pages ask for, by its path."""
    folder = Path(app.static_folder or "")
    return {f"{app.static_url_path}/{one.name}": _fingerprint(one.read_bytes()) for one in folder.iterdir()}


def _fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _logo(look: Appearance) -> tuple[bytes, str] | None:
    try:
        return look.logo()
    except OSError as error:  # it has gone since the start
        log.warning("the logo cannot be read: %s", error)
        return None


def _aware(moment: datetime | int) -> datetime:
    """Return a moment that is given aware, or in milliseconds since 1970."""
    return moment if isinstance(moment, datetime) else from_milliseconds(moment)


def when(moment: datetime | int) -> str:
    """Return a moment as the reader's language writes it, in UTC."""
    return f"{format_datetime(_aware(moment), 'medium', rebase=False)} UTC"


def iso(moment: datetime | int) -> str:
    """Return a moment as programs read it."""
    return iso8601(_aware(moment))


def provider(text: str) -> str:
    """Return a provider's short name: of an ARN, or of kind and name, what stands last."""
    arn = parse_arn(text)
    return (arn.resource if arn else text).partition("/")[2] or "IAM"


def length_of_time(seconds: int) -> str:
    """Return so many seconds in whole hours, or else in minutes, in the reader's language."""
    return _length(seconds, str(get_locale()))


@lru_cache(1000)
def _length(seconds: int, locale: str) -> str:
    unit: Literal["hour", "minute"] = "hour" if seconds % 3600 == 0 else "minute"
    # The threshold keeps 24 hours from being a day; units by themselves lack a name in Japanese.
    return format_timedelta(timedelta(seconds=seconds), granularity=unit, threshold=10_000, locale=locale)
