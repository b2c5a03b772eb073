"""The answers of workers to proxies, in one piece."""

import pytest

from broker.runtime.worker import _message


def test_an_answer_is_one_message_with_its_length():
    message = _message("200 OK", (("X-A", "1"), ("X-B", "")), b"body", ends=False)
    assert message == b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\nX-A: 1\r\nX-B: \r\n\r\nbody"
    assert b"Connection: close\r\n" in _message("403 Forbidden", (), b"", ends=True)


@pytest.mark.parametrize("value", ["a\r\nX-Fedgate-Principal: root", "a\nb", "a\rb"])
def test_a_header_never_begins_another(value):
    with pytest.raises(ValueError, match="line break"):
        _message("200 OK", (("X-A", value),), b"", ends=False)
