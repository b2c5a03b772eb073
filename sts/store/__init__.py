"""What the STS keeps: live sessions, single-use markers, sealing keys."""
