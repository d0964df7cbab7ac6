"""Foreseeable failures with brokers of other makers."""

from typing import ClassVar, Final

from meshwire.errors import ExitCode, MeshwireError

__all__ = ["CATALOGUE", "EngineError", "EngineRefuses"]


class EngineError(MeshwireError):
    """Base of the errors about other engines."""

    default_code: ClassVar[str] = "MW-ENG-001"


class EngineRefuses(EngineError):
    """A setting that the chosen engine can't honour."""

    default_code: ClassVar[str] = "MW-ENG-002"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


CATALOGUE: Final[dict[str, str]] = {
    "MW-ENG-001": "A broker of another maker could not be used; the message names the cause.",
    "MW-ENG-002": "The configuration asks for something that the chosen broker can't do; the message says what and "
    "why. `meshwire instance show` prints what each broker can do.",
    "MW-ENG-003": "The broker's program is not installed on this machine.",
    "MW-ENG-004": "The broker was started and did not come up; the message holds its last lines.",
    "MW-ENG-005": "Mosquitto's dynamic security refused a command, or did not answer in time.",
    "MW-ENG-007": "`meshwire instance scale` found nobody who runs a cluster from this folder, or it did not answer in "
    "time. `meshwire instance trial --directory DIR` runs one.",
    "MW-ENG-008": "The cluster would be left with too few nodes to have a majority when one fails.",
    "MW-ENG-009": "One of RabbitMQ's own tools failed while a node was added or taken out; the message has its words.",
    "MW-ENG-010": "RabbitMQ's management plugin, which tells a cluster's load, can't be reached or refuses the user.",
}
"""What `meshwire help CODE` says."""
