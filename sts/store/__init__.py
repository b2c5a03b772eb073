"""The storage of the STS: live sessions, single-use markers, sealing keys."""
