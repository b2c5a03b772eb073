"""Every check that a SAML response passes before its assertion is accepted, one step after the other.

Pure: clock, keys and addresses are arguments. A step raises the error that the caller gets; ``log`` says more, to the
operator alone. Nothing of the message counts before its signature is verified. After that only the bytes that were
signed are read, parsed again by themselves: against signature wrapping, where a signed element stands beside a forged
one (THREATS D).
"""

from collections.abc import Iterator

from broker.providers.saml.assertion_checks import ASSERTION_STEPS
from broker.providers.saml.response_parts import Assertion, CheckState, ExpectedResponse, Step
from broker.providers.saml.signature_checks import SIGNATURE_STEPS
from iam.errors import ExpiredTokenException, IDPRejectedClaim, InvalidIdentityToken

STEPS: tuple[Step, ...] = (*SIGNATURE_STEPS, *ASSERTION_STEPS)
_REFUSALS = (InvalidIdentityToken, ExpiredTokenException, IDPRejectedClaim)


def check_response(text: str, expected: ExpectedResponse) -> Assertion:
    """Return what a response in base64 says; raise InvalidIdentityToken, ExpiredTokenException, IDPRejectedClaim."""
    work = CheckState(text, expected)
    for step in STEPS:
        step.run(work)
    return _assertion(work)


def run_checks(text: str, expected: ExpectedResponse) -> Iterator[tuple[Step, Exception | None]]:
    """Yield each step with its error, or None; the first error is the last of them."""
    work = CheckState(text, expected)
    for step in STEPS:
        try:
            step.run(work)
        except _REFUSALS as error:
            yield step, error
            return
        yield step, None


def _assertion(work: CheckState) -> Assertion:
    return Assertion(**work.found)  # type: ignore[arg-type]  # each step puts in what its name says
