"""Request ids are UUIDs that say of themselves that they are random."""

import os
import uuid

from broker.api.request_ids import new_request_id


def test_an_id_is_a_random_uuid_of_version_4():
    for octets in (bytes(16), b"\xff" * 16, os.urandom(16)):
        assert new_request_id(lambda _size, octets=octets: octets) == str(uuid.UUID(bytes=octets, version=4))
