"""How gunicorn runs: `gunicorn --config python:config.gunicorn config.wsgi`; its logs are ours too.

Addresses and numbers of processes and threads are given on the command line, by the place.
"""

import os

from config.logs import logging_config

logconfig_dict = logging_config(os.environ.get("LOG_LEVEL", "INFO"))
# gunicorn gives its two loggers handlers of their own unless they are told to pass records on.
for name in ("gunicorn.error", "gunicorn.access"):
    logconfig_dict["loggers"][name] = {"handlers": [], "propagate": True}
