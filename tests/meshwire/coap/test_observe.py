import pytest

from meshwire.coap.observe import is_fresh


@pytest.mark.parametrize(
    ("last", "last_at", "number", "at", "fresh"),
    [
        (3, 0.0, 4, 1.0, True),
        (4, 0.0, 4, 1.0, False),
        (4, 0.0, 3, 1.0, False),
        ((1 << 24) - 1, 0.0, 2, 1.0, True),
        (2, 0.0, (1 << 24) - 1, 1.0, False),
        (100, 0.0, 3, 128.0, False),
        (100, 0.0, 3, 128.5, True),
    ],
)
def test_the_rule_of_rfc_7641_section_3_4(last: int, last_at: float, number: int, at: float, fresh: bool) -> None:
    assert is_fresh(last, last_at, number, at) is fresh
