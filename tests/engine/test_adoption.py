"""A context an earlier daemon left is taken up: it goes on under its label and sets [D36]."""

from noid.engine.adoption import UPDATE_NONCE_LEAP
from noid.engine.events import ContextFound, LocatorsChanged, Memory
from noid.engine.host import Host
from noid.engine.state import State
from tests.engine.network import A1, A2, B1, B2, Network, Station, established, packet


def memory_of(station: Station) -> Memory:
    memory = station.host.memory_of(station.context.local_label)
    assert memory is not None
    return memory


def restart(network: Network, station: Station, memory: Memory) -> None:
    """Another daemon, whose plane still has the flows."""
    station.host = Host(station.host.core.options, station.random.randbytes)
    network.give(station, LocatorsChanged(station.locators))
    network.give(station, ContextFound(memory))


def test_a_context_is_taken_up_as_it_was() -> None:
    network = established()
    before, memory = network.a.context, memory_of(network.a)
    restart(network, network.a, memory)
    after = network.a.context
    assert after is not before
    assert after.state is State.ESTABLISHED
    assert (after.local_label, after.peer_label) == (before.local_label, before.peer_label)
    assert after.peer_verified == {B1, B2}
    assert after.own_set == (A1, A2)
    assert after.flow().transmits
    assert after.verification.name == "b.example"


def test_the_peer_believes_its_updates() -> None:
    network = established()
    restart(network, network.a, memory_of(network.a))
    assert network.a.context.update_nonce >= UPDATE_NONCE_LEAP
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(1_000_000_000)
    assert network.b.context.peer_local == (A1,)
    assert network.a.context.state is State.ESTABLISHED, "acknowledged"


def test_a_context_that_is_there_already_is_not_taken_up_twice() -> None:
    network = established()
    before = network.a.context
    network.give(network.a, ContextFound(memory_of(network.a)))
    assert network.a.context is before
    assert network.a.host.drops["context found that is there already"] == 1


def test_a_context_that_is_being_set_up_is_not_remembered() -> None:
    network = Network()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    assert network.a.context.state is State.INIT_SENT
    assert network.a.host.memory_of(network.a.context.local_label) is None
    assert network.a.host.memory_of(1) is None
