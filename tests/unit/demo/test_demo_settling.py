from demo_day.homes import read_day, read_panels_w
from demo_day.plan import HOUR_NS, metered_wh, plan_day
from demo_day.settling import Part, in_quarters, shares
from hypothesis import given
from hypothesis import strategies as st

QUANTITIES = st.lists(st.integers(1, 10**6), min_size=1, max_size=20)


@given(st.integers(0, 10**9))
def test_quarters_sum_to_the_hour(energy_wh: int) -> None:
    assert sum(in_quarters(energy_wh)) == energy_wh
    assert min(in_quarters(energy_wh)) >= 0


@given(st.integers(0, 10**7), QUANTITIES)
def test_c12_shares_sum_to_the_reading(metered: int, quantities: list[int]) -> None:
    parts = [Part(1, bytes([number]) * 36, quantity) for number, quantity in enumerate(quantities)]

    divided = shares(metered, parts)
    assert sum(one.delivered_wh for one in divided) == metered
    assert all(one.delivered_wh >= 0 for one in divided)
    assert [one.state for one in divided] == [part.ref for part in parts]


def test_readings_are_near_what_was_promised_and_within_the_panels() -> None:
    plan, panels_w = plan_day(read_day(17), 17, 2 * 24 * HOUR_NS, 1), read_panels_w(17)

    assert set(panels_w) == set(range(1, 18))
    for hour in plan.hours:
        for home, promised in hour.issued_wh.items():
            assert promised <= panels_w[home]
            assert abs(metered_wh(home, hour) - promised) <= promised // 10 + 1
