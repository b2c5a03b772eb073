"""What every page needs of the organisation and the reader: colours, logo, and how names and times are written."""

from datetime import UTC, datetime

from babel.units import format_unit
from flask import Blueprint, Flask, Response, abort
from flask_babel import format_datetime, get_locale

from broker.web.appearance import Appearance
from iam.arn import parse_arn

_AN_HOUR = {"Cache-Control": "public, max-age=3600"}


def brand(app: Flask, look: Appearance) -> None:
    """Add the routes of an organisation's looks, and the filters that templates write with."""
    made = Blueprint("brand", __name__)

    @made.get("/brand.css")
    def colours() -> Response:
        return Response(look.stylesheet(), content_type="text/css; charset=utf-8", headers=_AN_HOUR)

    @made.get("/brand/logo")
    def logo() -> Response:
        found = look.logo()
        if found is None:
            abort(404)
        return Response(found[0], content_type=found[1], headers=_AN_HOUR)

    app.register_blueprint(made)
    app.add_template_filter(when, "when")
    app.add_template_filter(iso, "iso")
    app.add_template_filter(provider, "provider")
    app.add_template_filter(length_of_time, "length_of_time")


def _aware(moment: datetime | int) -> datetime:
    """Return a moment that is given aware, or in milliseconds since 1970."""
    return moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment / 1000, UTC)


def when(moment: datetime | int) -> str:
    """Return a moment as the reader's language writes it, in UTC."""
    return f"{format_datetime(_aware(moment), 'medium', rebase=False)} UTC"


def iso(moment: datetime | int) -> str:
    """Return a moment as programs read it."""
    return _aware(moment).strftime("%Y-%m-%dT%H:%M:%SZ")


def provider(text: str) -> str:
    """Return a provider's short name: of an ARN, or of kind and name, what stands last."""
    arn = parse_arn(text)
    return (arn.resource if arn else text).partition("/")[2] or "IAM"


def length_of_time(seconds: int) -> str:
    """Return so many seconds in whole hours, or else in minutes, in the reader's language."""
    unit, size = ("duration-hour", 3600) if seconds % 3600 == 0 else ("duration-minute", 60)
    return str(format_unit(seconds // size, unit, locale=get_locale()))
