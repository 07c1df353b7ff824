"""The simulation beside results of queueing theory."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from pyserving.planning import simulation
from pyserving.planning.simulation import Balancing, Floats
from pyserving.planning.station import Station

MEAN = 0.01
_PARTS = (np.arange(20_000) + 0.5) / 20_000
EXPONENTIAL: Sequence[float] = (-MEAN * np.log(1 - _PARTS)).tolist()
FIXED: Sequence[float] = [MEAN]
PRECISION = 0.05


def simulate(station: Station, servers: int, rate: float, balancing: Balancing, requests: int = 100_000) -> Floats:
    return simulation.simulate(station, servers, rate, balancing, requests)


def erlang_c(servers: int, offered: float) -> float:
    """Probability that a request waits in M/M/c; ``offered``: rate times mean service time."""
    terms = [offered**n / math.factorial(n) for n in range(servers)]
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (sum(terms) + last)


@pytest.mark.parametrize("load", [0.3, 0.5, 0.8])
def test_mm1(load: float) -> None:
    """The time in M/M/1 is exponential with the mean 1 / (mu - lambda)."""
    taken = simulate(Station(EXPONENTIAL, (1.0,)), 1, load / MEAN, Balancing.RANDOM)
    mean = MEAN / (1 - load)
    assert taken.mean() == pytest.approx(mean, rel=PRECISION)
    assert np.percentile(taken, 99) == pytest.approx(mean * math.log(100), rel=PRECISION)


@pytest.mark.parametrize(("slots", "load"), [(2, 0.5), (2, 0.8), (8, 0.8)])
def test_mmc_is_as_erlang_c_has_it(slots: int, load: float) -> None:
    offered = slots * load
    taken = simulate(Station(EXPONENTIAL, (1.0,) * slots), 1, offered / MEAN, Balancing.RANDOM)
    waits = erlang_c(slots, offered)
    assert taken.mean() == pytest.approx(MEAN + waits * MEAN / (slots - offered), rel=PRECISION)
    # P(T > t) of M/M/c, at the simulated percentile
    p99 = float(np.percentile(taken, 99)) / MEAN
    left = slots - 1 - offered
    beyond = (
        math.exp(-p99) * (1 + waits * (1 - math.exp(-p99 * left)) / left)
        if left
        else math.exp(-p99) * (1 + waits * p99)
    )
    assert beyond == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_md1_is_as_pollaczek_khinchine_and_crommelin_have_it(load: float) -> None:
    taken = simulate(Station(FIXED, (1.0,)), 1, load / MEAN, Balancing.RANDOM, 400_000)
    assert taken.mean() == pytest.approx(MEAN * (1 + load / (2 * (1 - load))), rel=PRECISION)

    def no_longer(wait: float) -> float:
        """P(W <= wait services), by Crommelin."""
        return (1 - load) * sum(
            (load * (k - wait)) ** k / math.factorial(k) * math.exp(-load * (k - wait)) for k in range(int(wait) + 1)
        )

    wait = float(np.percentile(taken, 99)) / MEAN - 1
    assert no_longer(wait * (1 - PRECISION)) < 0.99 < no_longer(wait * (1 + PRECISION))


@pytest.mark.parametrize("times", [EXPONENTIAL, FIXED])
def test_processor_sharing_does_not_depend_on_the_distribution(times: Sequence[float]) -> None:
    speeds = [1 / n for n in range(1, 200)]
    taken = simulate(Station(times, speeds), 1, 0.6 / MEAN, Balancing.RANDOM)
    assert taken.mean() == pytest.approx(MEAN / (1 - 0.6), rel=PRECISION)


def test_batches_let_throughput_grow_with_the_queue() -> None:
    """M/M/1 whose rate depends on how many are there: mu(n) of a birth and death process."""
    slots, load = 8, 0.7
    rates = [n**0.5 for n in range(1, slots + 1)]  # two at a time are done 1.4 times as fast, and so on
    station = Station(EXPONENTIAL, [rate / n for n, rate in enumerate(rates, 1)])
    assert station.capacity == pytest.approx(slots**0.5 / MEAN, rel=0.01)
    arriving = load * slots**0.5
    chances = [1.0]
    for n in range(1, 400):
        chances.append(chances[-1] * arriving / rates[min(n, slots) - 1])
    number = sum(n * chance for n, chance in enumerate(chances)) / sum(chances)
    taken = simulate(station, 1, arriving / MEAN, Balancing.RANDOM)
    assert taken.mean() == pytest.approx(number / arriving * MEAN, rel=PRECISION)


def test_random_balancing_makes_each_server_a_queue_of_its_own() -> None:
    station = Station(EXPONENTIAL, (1.0,))
    taken = simulate(station, 5, 5 * 0.7 / MEAN, Balancing.RANDOM)
    assert np.percentile(taken, 99) == pytest.approx(MEAN / 0.3 * math.log(100), rel=PRECISION)


def test_round_robin_is_the_queue_with_erlang_arrivals() -> None:
    """In E_n/M/1 the time is exponential with the rate mu (1 - s), where s solves s = A*(mu (1 - s))."""
    servers, load = 3, 0.7
    share = 0.5
    for _ in range(200):
        share = (servers * load / (servers * load + 1 - share)) ** servers
    taken = simulate(Station(EXPONENTIAL, (1.0,)), servers, servers * load / MEAN, Balancing.ROUND_ROBIN)
    assert np.percentile(taken, 99) == pytest.approx(MEAN / (1 - share) * math.log(100), rel=PRECISION)


def test_the_shortest_queue_lies_between_one_line_for_all_and_chance() -> None:
    servers, load = 3, 0.8
    rate = servers * load / MEAN
    station = Station(EXPONENTIAL, (1.0,))
    shortest = simulate(station, servers, rate, Balancing.LEAST).mean()
    one_line = MEAN * (1 + erlang_c(servers, servers * load) / (servers - servers * load))
    assert one_line < shortest < 0.6 * MEAN / (1 - load)


def test_with_one_server_all_balancing_is_the_same() -> None:
    station = Station(EXPONENTIAL, (1.0, 0.8))
    random, turns, least = (simulate(station, 1, 50, how) for how in Balancing)
    np.testing.assert_allclose(random, least)
    assert np.percentile(turns, 99) == pytest.approx(np.percentile(random, 99), rel=PRECISION)
