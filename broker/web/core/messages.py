"""Messages of other packages that pages translate; the audit log has them in English."""

from typing import Final

from broker.web.core.languages import gettext_noop

MESSAGES: Final = (
    gettext_noop("A person is written as PROVIDER|SUBJECT, as the list shows it."),
    gettext_noop("An internal error occurred."),
    gettext_noop("Say that you mean all of it: tick the box."),
    gettext_noop("The identity provider cannot be reached. Try again later."),
    gettext_noop("The list of credentials cannot be read now. Try again later."),
    gettext_noop("The provider cannot be asked now. Try again later."),
    gettext_noop("The provider refused the code."),
    gettext_noop("The request was answered before."),
    gettext_noop("The service cannot answer now. Try again later."),
    gettext_noop("The service cannot record this request. Try again later."),
    gettext_noop("The service cannot sign anybody in now. Try again later."),
    gettext_noop("The store cannot answer now. Try again later."),
    gettext_noop("This session has ended already, or is of an account that is not yours."),
    gettext_noop("This sign-in was not begun here. Begin at the sign-in page."),
    gettext_noop("This sign-in was not begun in this browser, or too long ago. Begin again at the sign-in page."),
    gettext_noop("Too many failed sign-ins. Try again later."),
    gettext_noop("Too many sign-ins at once. Try again later."),
    gettext_noop("You administer no account: none of the roles open to you allows it."),
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
