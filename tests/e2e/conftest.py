from collections.abc import Iterator
from pathlib import Path

import pytest
from process_site import ProcessSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ProcessSite]:
    built = ProcessSite(tmp_path)
    try:
        yield built
    finally:
        built.stop()
