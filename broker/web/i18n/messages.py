"""Messages of other packages that pages translate; the audit log has them in English."""

from typing import Final

from broker.web.i18n.languages import gettext_noop

MESSAGES: Final = (
    gettext_noop("Enter the person as PROVIDER|SUBJECT, as shown in the list."),
    gettext_noop("An internal error occurred."),
    gettext_noop("Select the check box to confirm."),
    gettext_noop("The identity provider cannot be reached. Try again later."),
    gettext_noop("The list of credentials is not available now. Try again later."),
    gettext_noop("The provider cannot be reached now. Try again later."),
    gettext_noop("The provider rejected the code."),
    gettext_noop("This sign-in request was already used."),
    gettext_noop("The service is not available now. Try again later."),
    gettext_noop("The service cannot record this request. Try again later."),
    gettext_noop("Sign-in is not available now. Try again later."),
    gettext_noop("The data store is not available now. Try again later."),
    gettext_noop("This session has already ended, or you do not administer its account."),
    gettext_noop("This sign-in was not started here. Start at the sign-in page."),
    gettext_noop("This sign-in was not started in this browser, or it has expired. Start again at the sign-in page."),
    gettext_noop("Too many failed sign-ins. Try again later."),
    gettext_noop("Too many sign-ins at once. Try again later."),
    gettext_noop("A second factor is required. Sign in on the sign-in page."),
    gettext_noop("Access denied. None of your roles lets you administer an account."),
)

# The policy types of a decision (iam.policy.decide), and names of shells (broker.doors.credential_formats).
LABELS: Final = (
    gettext_noop("identity-based policy"),
    gettext_noop("resource-based policy"),
    gettext_noop("role trust policy"),
    gettext_noop("permissions boundary"),
    gettext_noop("session policy"),
    gettext_noop("service control policy"),
    gettext_noop("bash and zsh"),
    gettext_noop("Windows Command Prompt"),
)
