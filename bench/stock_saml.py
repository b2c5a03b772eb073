"""What AssumeRoleWithSAML is timed against: a Flask view that believes what python3-saml believes, as its examples do.

It remembers no assertion, decides nothing and writes nothing.
"""

import json
import os
from pathlib import Path

from flask import Flask, request
from onelogin.saml2.auth import OneLogin_Saml2_Auth

application = Flask("stock")
SETTINGS = json.loads(Path(os.environ["STOCK_SAML_SETTINGS"]).read_text())
# As it would be asked where the responses were sent to.
HERE = {"https": "on", "http_host": "signin.aws.amazon.com", "script_name": "/saml", "get_data": {}}


@application.post("/")
def view():
    auth = OneLogin_Saml2_Auth({**HERE, "post_data": {"SAMLResponse": request.form["SAMLAssertion"]}}, SETTINGS)
    auth.process_response()
    if auth.get_errors():
        return f"{auth.get_errors()}: {auth.get_last_error_reason()}", 400
    return auth.get_nameid()
