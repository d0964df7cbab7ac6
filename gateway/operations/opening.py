"""Which broker is asked, and how: from the settings to a desk."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from gateway.mqtt import Login
from gateway.operations.control_line import ControlLine
from gateway.operations.desk import BrokerDesk
from gateway.operations.embedded import TOPICS, EmbeddedDesk
from gateway.operations.errors import NotReached
from gateway.operations.mosquitto import MosquittoDesk
from gateway.operations.rabbitmq import RabbitMQDesk
from gateway.settings import BrokerEngine, OperationsSettings

__all__ = ["open_desk"]


def open_desk(settings: OperationsSettings, login: Callable[[], Login] | None) -> tuple[BrokerDesk, ControlLine]:
    """The desk, and the line that has to run beside it.

    Args:
        settings: section `[gateway.operations]`.
        login: how the gateway introduces itself to its broker; None: it has none.
    """
    own = None if login is None else _as_operator(settings, login)
    line = ControlLine(own, TOPICS)
    match settings.engine:
        case BrokerEngine.RABBITMQ:
            context = partial(_management_context, settings.url, login)
            password = partial(_password, settings.password_file)
            return RabbitMQDesk(settings.url, settings.username, password, context), line
        case BrokerEngine.MOSQUITTO if own is not None:
            return MosquittoDesk(own), line
        case _:
            return EmbeddedDesk(line), line


def _as_operator(settings: OperationsSettings, login: Callable[[], Login]) -> Callable[[], Login]:
    def own() -> Login:
        if not settings.username:
            return login()
        return replace(login(), username=settings.username, password=_password(settings.password_file))

    return own


def _management_context(url: str, login: Callable[[], Login] | None) -> ssl.SSLContext | None:
    """By https the management plugin is trusted by the files that its broker is trusted by."""
    tls = None if login is None or not url.startswith("https://") else login().tls
    return None if tls is None else tls.context()


def _password(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text().splitlines()[0].strip()
    except (OSError, IndexError) as error:
        fix = "see gateway.operations.password_file"
        raise NotReached("the password for the broker can't be read", evidence=str(error), fix=fix) from None
