import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from meshwire.site import Site


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    site = Site(tmp_path / "state")
    assert site.secret("gateway-mqtt") == site.secret("gateway-mqtt")
    assert site.secret("gateway-mqtt") != site.secret("other")
    assert stat.S_IMODE(site.path("secrets", "gateway-mqtt").stat().st_mode) == 0o600


def test_two_that_start_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: Site(tmp_path).secret("shared"), range(32)))
        kids = set(pool.map(lambda _: Site(tmp_path).signing_keys().kid, range(16)))
    assert (len(secrets), len(kids)) == (1, 1)


def test_the_public_key_set_stands_beside_the_key(tmp_path: Path) -> None:
    keys = Site(tmp_path).signing_keys()
    published = json.loads(Site(tmp_path).jwks_path.read_text())
    assert [key["kid"] for key in published["keys"]] == [keys.kid]
    assert "d" not in published["keys"][0]


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("MESHWIRE_STATE", raising=False)
    assert Site.default().state_dir == tmp_path / "meshwire"
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path / "own"))
    assert Site.default().state_dir == tmp_path / "own"
