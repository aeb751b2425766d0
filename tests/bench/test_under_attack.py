"""The bench of a host under attack: one small run."""

import json

import pytest

from noid.cli.main import main

GROWTH_OCTETS_MAX = 64 << 20


@pytest.mark.lab
@pytest.mark.slow
def test_a_host_under_attack_fails_over_and_its_stub_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "under-attack", "--runs", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert min(found["inits"], found["strangers"], found["requests"]) > 0
    assert found["attacked_gap_milliseconds"]["max"] < 20_000
    assert found["attacked_stub_milliseconds"]["max"] < 2_000
    assert found["attacked_growth_octets"]["max"] < GROWTH_OCTETS_MAX
