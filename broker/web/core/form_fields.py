"""The fields of posted forms: how long they may be, and which text is refused (THREATS H11)."""

from typing import Final

from flask import request

from broker.api.body_budget import MAX_UNSIGNED_BODY
from iam.errors import ValidationError

MAX_FORM_BYTES: Final = MAX_UNSIGNED_BODY  # a SAML response may come to a page, too


def form_field(name: str, max_length: int = 1024) -> str:
    """Return one field of the posted form, or ""; raise ValidationError for what no form of ours can send."""
    values = request.form.getlist(name)
    text = values[0] if values else ""
    if len(values) > 1 or len(text) > max_length or not is_valid_form_text(text):
        raise ValidationError(f"The field {name} cannot be read.")
    return text


def is_valid_form_text(text: str) -> bool:
    """Return whether a text was valid UTF-8 (U+FFFD stands for what was not) and holds no NUL."""
    return "\0" not in text and "\ufffd" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
