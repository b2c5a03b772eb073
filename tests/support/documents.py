"""Policy documents that several tests use."""

import json


def allow(action="s3:GetObject", resource="*", **more):
    return _document(Effect="Allow", Action=action, Resource=resource, **more)


def trust(principal, action="sts:AssumeRole", **more):
    return _document(Effect="Allow", Principal=principal, Action=action, **more)


def _document(**statement):
    return json.dumps({"Version": "2012-10-17", "Statement": statement})
