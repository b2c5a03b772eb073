"""/admin/audit: a search of the audit log of this machine, and its results as files; whoever looks is recorded.

Records of accounts that somebody may not see are never shown. Those of no account, such as sign-ins that failed in a
directory, are for those who administer every account.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Response, request
from flask_babel import gettext

from broker.audit.export import RecordSummary, as_csv, as_json_lines, summarize, to_pretty_json
from broker.audit.query import AuditAccess, AuditFilter, LogCursor
from broker.audit.search import AuditSearch, SearchPage
from broker.sessions.browser import BrowserSession
from broker.web.admin.access import AdminAccess
from broker.web.admin.audit_form import form_values, parse_query
from broker.web.core.form_fields import is_valid_form_text
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from iam.clock import iso8601_basic
from iam.errors import ValidationError
from iam.inventory.accounts import names
from iam.inventory.pagination import PAGE

MAX_EXPORTED: Final = 10_000  # records of one file at most
_EVENT: Final = "SearchAudit"
_FORMATS: Final[Mapping[str, tuple[Callable[[Any], str], str]]] = {
    "jsonl": (as_json_lines, "application/x-ndjson"),
    "csv": (as_csv, "text/csv; charset=utf-8"),
}


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One record on the page."""

    line: RecordSummary
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPages:
    """The page that searches, and its files."""

    site: Site
    admin_access: AdminAccess
    search: AuditSearch

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("admin_audit", __name__)
        made.get("/admin/audit")(self.show)
        return made

    def show(self) -> Response:
        """Show or hand out what a search finds; raise NotSignedIn, AccessDenied, ValidationError, AuditUnavailable."""
        site, session = self.site, self.site.current_session.require()
        accounts = self.admin_access.require_accounts(session)
        view = AuditAccess(frozenset(accounts), all_accounts=self.admin_access.is_operator(session))
        if not all(is_valid_form_text(value) for value in request.args.values()):
            raise ValidationError("The search cannot be read.")
        given, form = form_values(request.args), request.args.get("format", "")
        try:
            asked = parse_query(given)
        except ValidationError as error:
            if form or wants_json():
                raise
            return self._page(session, view, given, None, gettext(error.message))
        found = self._search(asked, view, form)
        if form in _FORMATS:
            return self._file(found, form)
        if wants_json():
            return site.responses.json(
                {"records": found.records, "before": _text(found.next_cursor), "cut": found.searched_back_to}
            )
        return self._page(session, view, given, found)

    def _search(self, asked: AuditFilter, view: AuditAccess, form: str) -> SearchPage:
        """Search, and record who has looked for what before they see it."""
        before = LogCursor.parse(request.args.get("before", "")[:64])
        found = self.search.find(asked, view, most=MAX_EXPORTED if form in _FORMATS else PAGE, before=before)
        told = asked.active_filters() | {"found": len(found.records)} | ({"format": form} if form in _FORMATS else {})
        seen = "all" if view.all_accounts else sorted(view.accounts)
        self.site.audit.record(_EVENT, _account(asked, view), accounts=seen, **told)
        return found

    def _file(self, found: SearchPage, form: str) -> Response:
        """Return the records as a file, whose name says where some are missing."""
        written, kind = _FORMATS[form]
        incomplete = "-incomplete" if found.next_cursor else ""
        name = f"audit-{iso8601_basic(self.site.request_state.now)}{incomplete}.{form}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return self.site.responses.add_security_headers(
            Response(written(found.records), content_type=kind, headers=headers)
        )

    def _page(
        self,
        session: BrowserSession,
        view: AuditAccess,
        given: Mapping[str, str],
        found: SearchPage | None,
        wrong: str = "",
    ) -> Response:
        with self.site.store.read() as tx:
            called = names(tx, tuple(sorted(view.accounts)))
        search = {name: value for name, value in given.items() if value}
        return self.site.responses.render(
            "admin/audit.html",
            code=400 if wrong else 200,
            session=session,
            administrator=True,
            given=given,
            search=search,
            names=called,
            all_accounts=view.all_accounts,
            shown=[AuditRow(summarize(one), to_pretty_json(one)) for one in found.records] if found else [],
            found=found,
            older=_text(found.next_cursor) if found else None,
            here_before=request.args.get("before", ""),
            exported=MAX_EXPORTED,
            wrong=wrong,
            reference=self.site.reference,
        )


def _account(asked: AuditFilter, view: AuditAccess) -> str:
    """Return the account whose record a search is: the one that was looked at, or none where there are several."""
    looked_at = {asked.account} & view.accounts if asked.account else view.accounts
    return next(iter(looked_at)) if len(looked_at) == 1 else ""


def _text(place: LogCursor | None) -> str | None:
    return None if place is None else str(place)
