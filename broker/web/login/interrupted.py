"""The page to come back to after whatever interrupted a request: a sign-in, an error, or a change of the language.

Nothing that was chosen there may be lost: the next click would otherwise take more than somebody wished for.
"""

from urllib.parse import urlencode

from flask import request
from werkzeug.exceptions import HTTPException

from broker.web.core.responses import HOME
from broker.web.login.completion import RETURN_TO, return_to
from broker.web.portal.scope_down import posted_address, requested_address
from iam.errors import ValidationError


def interrupted_page() -> str:
    """Return the path and query of the page that was asked for, or that the posted form stands on, else the portal."""
    if request.method not in ("GET", "HEAD"):
        try:
            return _page_of_the_form()
        except HTTPException:  # what was sent cannot be read: too much, or cut off
            return HOME
    query = urlencode([pair for pair in request.args.items(multi=True) if pair[0] != "lang"])
    page = f"{request.path}?{query}" if query else request.path
    if return_to(page) == page:
        return page
    return _portal_page() if request.path == HOME else _named_page()


def _portal_page() -> str:
    try:
        return return_to(requested_address())
    except ValidationError:  # no address of ours names a field twice
        return HOME


def _page_of_the_form() -> str:
    if request.path == HOME:
        return return_to(posted_address())
    above = request.path.rpartition("/")[0]
    own_pages = [page for page in (request.path, above) if return_to(page) == page]
    return own_pages[0] if own_pages and "to" not in request.form else _named_page()


def _named_page() -> str:
    """Return the page to which a form, or an address, says that it leads; the first one where it names several."""
    named = (value for name in ("to", RETURN_TO) for value in request.values.getlist(name) if value)
    return return_to(next(named, None))
