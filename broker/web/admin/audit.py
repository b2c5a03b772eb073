"""/admin/audit: search and download of this server's audit log; every search is recorded.

Records of accounts that somebody may not see are never shown. Those of no account, such as sign-ins that failed in a
directory, are for those who administer every account.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Response, request
from flask_babel import gettext

from broker.audit.export import RecordSummary, as_csv, as_json_lines, summarize, to_pretty_json
from broker.audit.query import ALL_ACCOUNTS, SEARCH, AuditAccess, AuditFilter, LogCursor
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
_FORMATS: Final[Mapping[str, tuple[Callable[[Any], str], str]]] = {
    "jsonl": (as_json_lines, "application/x-ndjson"),
    "csv": (as_csv, "text/csv; charset=utf-8"),
}


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One record in the results."""

    line: RecordSummary
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPages:
    """The search page and its downloads."""

    site: Site
    admin_access: AdminAccess
    search: AuditSearch

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("admin_audit", __name__)
        blueprint.get("/admin/audit")(self.show)
        return blueprint

    def show(self) -> Response:
        """Return the results; raise NotSignedIn, AccessDenied, ValidationError, AuditUnavailable."""
        site, session = self.site, self.site.current_session.require()
        accounts = self.admin_access.require_accounts(session)
        view = AuditAccess(frozenset(accounts), all_accounts=self.admin_access.is_operator(session))
        if not all(is_valid_form_text(value) for value in request.args.values()):
            raise ValidationError("The search cannot be read.")
        form_fields, form = form_values(request.args), request.args.get("format", "")
        try:
            query = parse_query(form_fields)
        except ValidationError as error:
            if form or wants_json():
                raise
            return self._page(session, view, form_fields, None, gettext(error.message))
        result = self._search(query, view, form)
        if form in _FORMATS:
            return self._file(result, form)
        if wants_json():
            return site.responses.json(
                {"records": result.records, "before": _text(result.next_cursor), "cut": result.searched_back_to}
            )
        return self._page(session, view, form_fields, result)

    def _search(self, query: AuditFilter, view: AuditAccess, form: str) -> SearchPage:
        """Search the log, and record the search before its results are returned."""
        before = LogCursor.parse(request.args.get("before", "")[:64])
        result = self.search.find(query, view, most=MAX_EXPORTED if form in _FORMATS else PAGE, before=before)
        details = (
            query.active_filters() | {"found": len(result.records)} | ({"format": form} if form in _FORMATS else {})
        )
        seen = ALL_ACCOUNTS if view.all_accounts else sorted(view.accounts)
        self.site.audit.record(SEARCH, _account(query, view), accounts=seen, **details)
        return result

    def _file(self, result: SearchPage, form: str) -> Response:
        """Return the records as a file; its name says if it is incomplete."""
        written, kind = _FORMATS[form]
        incomplete = "-incomplete" if result.next_cursor else ""
        name = f"audit-{iso8601_basic(self.site.request_state.now)}{incomplete}.{form}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return self.site.responses.add_security_headers(
            Response(written(result.records), content_type=kind, headers=headers)
        )

    def _page(
        self,
        session: BrowserSession,
        view: AuditAccess,
        form_fields: Mapping[str, str],
        result: SearchPage | None,
        wrong: str = "",
    ) -> Response:
        with self.site.store.read() as tx:
            account_names = names(tx, tuple(sorted(view.accounts)))
        search = {name: value for name, value in form_fields.items() if value}
        return self.site.responses.render(
            "admin/audit.html",
            code=400 if wrong else 200,
            session=session,
            administrator=True,
            given=form_fields,
            search=search,
            names=account_names,
            all_accounts=view.all_accounts,
            shown=[AuditRow(summarize(record), to_pretty_json(record)) for record in result.records] if result else [],
            found=result,
            older=_text(result.next_cursor) if result else None,
            here_before=request.args.get("before", ""),
            exported=MAX_EXPORTED,
            wrong=wrong,
            reference=self.site.reference,
        )


def _account(query: AuditFilter, view: AuditAccess) -> str:
    """Return the account for the record of a search: the searched account, or "" if there are several."""
    looked_at = {query.account} & view.accounts if query.account else view.accounts
    return next(iter(looked_at)) if len(looked_at) == 1 else ""


def _text(place: LogCursor | None) -> str | None:
    return None if place is None else str(place)
