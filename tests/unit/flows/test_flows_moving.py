"""How states are joined into the transactions that move them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2petd.errors import FlowError
from p2petd.flows.moving import batches
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.vault.selection import Coin

Sizes = list[tuple[int, int]]


def _groups(sizes: Sizes) -> list[tuple[Coin, ...]]:
    """Groups of so many states under the notaries with these numbers."""
    groups, index = [], 0
    for notary, size in sizes:
        output = OutputState("c", 1, bytes([notary]) * 32, "t", 1, b"", 0, b"")
        groups.append(tuple(Coin(StateRef(bytes(32), index + n), output) for n in range(size)))
        index += size
    return groups


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=40), st.integers(5, 12))
def test_n13_batches_hold_each_state_once_groups_whole_and_one_notary(sizes: Sizes, inputs_max: int) -> None:
    groups = _groups(sizes)
    joined = batches(groups, inputs_max)
    assert sorted(coin.ref.index for batch in joined for coin in batch) == list(range(sum(s for _, s in sizes)))
    for batch in joined:
        assert 0 < len(batch) <= inputs_max
        assert len({coin.output.notary for coin in batch}) == 1
    for group in groups:
        assert sum(set(group) <= set(batch) for batch in joined) == 1


def test_n13_as_few_transactions_as_the_states_fit_into() -> None:
    assert [len(batch) for batch in batches(_groups([(1, 1)] * 10), 4)] == [4, 4, 2]
    assert sorted(len(batch) for batch in batches(_groups([(1, 1), (2, 1)] * 4), 4)) == [4, 4]


def test_n13_companions_that_do_not_fit_into_a_transaction_are_refused() -> None:
    assert [len(batch) for batch in batches(_groups([(1, 4)]), 4)] == [4]
    with pytest.raises(FlowError, match="must move together"):
        batches(_groups([(1, 5)]), 4)
