"""Request ids: random UUIDs of version 4. Pure."""

from iam.arn import Random


def new_request_id(random: Random) -> str:
    """Return a random UUID (RFC 9562, section 5.4); `uuid.UUID` takes several times as long."""
    octets = bytearray(random(16))
    octets[6] = octets[6] & 0x0F | 0x40
    octets[8] = octets[8] & 0x3F | 0x80
    text = octets.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
