"""The gateway's HTTP API: one file per noun, put together in `application.py`.

Importing this package imports FastAPI, which takes most of a second: the assembly does so on a thread while CoAP is
served already.
"""

from gateway.api.application import create_app
from gateway.api.callers import Callers
from gateway.api.limits import Limits

__all__ = ["Callers", "Limits", "create_app"]
