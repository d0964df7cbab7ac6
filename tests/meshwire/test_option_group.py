"""Options that commands share as a record: the command line is the same as if each had them of its own."""

from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from meshwire.option_group import with_groups


@dataclass(frozen=True, slots=True)
class Place:
    path: Annotated[str, typer.Argument(metavar="PATH")]
    host: Annotated[str, typer.Option("--host", "-h", envvar="PLACE_HOST")] = "127.0.0.1"
    token: Annotated[str | None, typer.Option("--token")] = field(default=None, repr=False)


app = typer.Typer()


@app.command("show")
@with_groups
def show(name: str, times: Annotated[int, typer.Option("-n")] = 1, *, place: Place, loud: bool = False) -> None:
    """Show it."""
    typer.echo(f"{name} {times} {place} {loud}")


@app.command("other")
@with_groups
def other(place: Place) -> None:
    """Something else at the same place."""
    typer.echo(repr(place.token))


def said(*words: str) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.output.strip()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("show", "a", "b"), "a 1 Place(path='b', host='127.0.0.1') False"),
        (("show", "-h", "::1", "a", "-n", "2", "--loud", "b"), "a 2 Place(path='b', host='::1') True"),
        (("other", "b", "--token", "t"), "'t'"),
    ],
)
def test_a_record_is_made_of_the_options_said(words: tuple[str, ...], expected: str) -> None:
    assert said(*words) == expected


def test_variables_of_the_environment_and_help_are_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE_HOST", "::2")
    assert "host='::2'" in said("show", "a", "b")
    text = said("show", "--help")
    assert "Show it." in text and text.index("-n") < text.index("--host") < text.index("--loud")


def test_what_must_be_said_is_asked_for() -> None:
    assert CliRunner().invoke(app, ["other"]).exit_code == 2
