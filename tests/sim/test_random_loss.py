# SPDX-License-Identifier: MIT
"""Lines that lose packets by chance: no firewall is suspected, and few messages are sent [D47]."""

import pytest

from noid.constants import SECOND
from noid.engine.host import Host
from noid.sim.history import History, Traffic
from noid.sim.shrink import violation_of
from noid.sim.stage import add_hosts, context_of, talk
from noid.sim.world import World


@pytest.mark.parametrize("loss", [0.05, 0.2, 0.3])
def test_random_loss_on_the_second_provider_makes_nothing_plain(loss: float) -> None:
    world = World(1)
    add_hosts(world)
    talk(world)
    world.run(5 * SECOND)
    contexts = [context_of(world, name) for name in "ab"]
    world.network.down.add(1)
    world.run(10 * SECOND)
    assert all(not one.is_on_aids for one in contexts)
    world.network.weather.loss = loss
    for _ in range(60):
        world.run(SECOND)
        assert all(one.flow().transmits for one in contexts)


@pytest.mark.parametrize("measured_ms", [0, 1_200])
@pytest.mark.parametrize("interval_us", [200_000, 1_000_000])
def test_tcp_over_lossy_lines_causes_few_control_messages(
    interval_us: int, measured_ms: int
) -> None:
    traffic = Traffic(interval_us=interval_us, is_tcp=True)
    for seed in (7000, 7001, 7002):
        history = History(
            seed=seed,
            locators=(2, 2),
            duration_ms=120_000,
            loss_percent=20,
            traffic=traffic,
            measured_ms=measured_ms,
        )
        assert not violation_of(history, Host)[0]
