"""Words of other layers that people read: pages show them in the reader's language, the audit log in English."""

from typing import Final

from broker.web.core.languages import to_translate

SENTENCES: Final = (
    to_translate("An internal error occurred."),
    to_translate("Say that you mean all of it: tick the box."),
    to_translate("The identity provider cannot be reached. Try again later."),
    to_translate("The provider cannot be asked now. Try again later."),
    to_translate("The provider refused the code."),
    to_translate("The request was answered before."),
    to_translate("The service cannot answer now. Try again later."),
    to_translate("The service cannot record this request. Try again later."),
    to_translate("The service cannot sign anybody in now. Try again later."),
    to_translate("The store cannot answer now. Try again later."),
    to_translate("This session has ended already, or is of an account that is not yours."),
    to_translate("This sign-in was not begun here. Begin at the sign-in page."),
    to_translate("This sign-in was not begun in this browser, or too long ago. Begin again at the sign-in page."),
    to_translate("Too many failed sign-ins. Try again later."),
    to_translate("Too many sign-ins at once. Try again later."),
    to_translate("You administer no account: none of the roles open to you allows it."),
)

# The layers of a decision (iam.policy.decide), and shells that have more than a name (broker.doors.credential_formats).
WORDS: Final = (
    to_translate("identity-based policy"),
    to_translate("resource-based policy"),
    to_translate("role trust policy"),
    to_translate("permissions boundary"),
    to_translate("session policy"),
    to_translate("service control policy"),
    to_translate("bash and zsh"),
    to_translate("Windows Command Prompt"),
)
