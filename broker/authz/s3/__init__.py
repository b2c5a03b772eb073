"""Amazon S3: which operation a request calls, and which actions on which resources it needs."""
