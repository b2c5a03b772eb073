"""Which texts are percent-encoded rightly."""

import pytest

from iam.percent_encoding import has_bad_escape


@pytest.mark.parametrize(
    ("text", "is_bad"),
    [
        ("", False),
        ("a b", False),
        ("%20", False),
        ("%aF%Fa", False),
        ("%", True),
        ("%2", True),
        ("%zz", True),
        ("%%20", True),
    ],
)
def test_a_percent_sign_begins_an_escape(text, is_bad):
    assert has_bad_escape(text) is is_bad
