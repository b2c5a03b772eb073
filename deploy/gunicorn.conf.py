# ruff: noqa: INP001 - gunicorn reads this file by its path, as part of no package
"""For those who start gunicorn themselves: `gunicorn -c deploy/gunicorn.conf.py broker.wsgi:application`.

`fedgate run` needs no such file and starts Redis as well. Here redis.url must name a running server, and the settings
come from FEDGATE_CONFIG or from the other FEDGATE_... variables.
"""

from broker.config.settings import Settings
from broker.runtime.launcher import GUNICORN

_settings = Settings.read()
# On the second address proxies ask the authorizer.
bind = [_settings.bind, *([_settings.authz_bind] if _settings.authz_bind else [])]
workers = _settings.workers
worker_connections = _settings.worker_connections
globals().update(GUNICORN)
