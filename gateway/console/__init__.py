"""The web console: pages rendered by the gateway, for people who look after a network.

Assembled in `application.py`: sign-in and sessions (`visitors.py`), the pulse of the gateway (`pulse.py`), what
deserves attention (`alarms.py`), and one file of routes for each group of pages. No build step, nothing from elsewhere:
scripts and styles are files beside the pages, and the content security policy allows nothing else.
"""

from gateway.console.application import Console

__all__ = ["Console"]
