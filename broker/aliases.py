"""Topic aliases towards one client (MQTT 5.0 section 3.3.2.3.4): the first topics of a connection get one each, and are
sent as two octets from their second message on.
"""

__all__ = ["OutgoingAliases"]


class OutgoingAliases:
    """Of one connection.

    Args:
        maximum: what the client accepts (Topic Alias Maximum), and no more than the broker keeps.
    """

    __slots__ = ("_known", "_maximum")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._known: dict[str, int] = {}

    def of(self, topic: str) -> tuple[int, bool]:
        """(alias, whether the client knows it); alias 0: the topic has none."""
        alias = self._known.get(topic)
        if alias is not None:
            return alias, True
        return (len(self._known) + 1, False) if len(self._known) < self._maximum else (0, False)

    def sent(self, topic: str, alias: int) -> None:
        """The client was told."""
        self._known[topic] = alias
