from decimal import Decimal
from pathlib import Path

import pytest
from demo_day.homes import DATA, DataError, net_wh, read_day

HOMES = 17


def test_day_has_the_totals_of_the_data_set() -> None:
    day = read_day(HOMES)

    assert [hour.start for hour in day] == list(range(24))
    nets = [net for hour in day for net in hour.net_wh.values()]
    assert len(nets) == 24 * HOMES
    assert sum(net for net in nets if net > 0) == 143_517
    assert -sum(net for net in nets if net < 0) == 331_731
    assert day[0].retail_micro_per_kwh == 220_000
    assert day[15].retail_micro_per_kwh == 540_000


def test_day_of_some_homes_is_the_first_ones() -> None:
    assert [dict(hour.net_wh) for hour in read_day(6)] == [
        {home: net for home, net in hour.net_wh.items() if home <= 6} for hour in read_day(HOMES)
    ]


@pytest.mark.parametrize(
    ("panels", "demand", "solar", "expected"),
    [
        ("4", "0.4095", "0.0", -410),  # half to even, up
        ("4", "0.4085", "0.0", -408),  # half to even, down
        ("5", "0", "100.1", 500),
        ("5", "0.1004", "20.1", 0),
        ("4", "9.833333e-08", "0.0", 0),
    ],
)
def test_net_rounds_generation_and_demand_each(panels: str, demand: str, solar: str, expected: int) -> None:
    assert net_wh(Decimal(panels), Decimal(demand), Decimal(solar)) == expected


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("1,1,4,0.40925,0.0", "1,1,4,much,0.0", "line 2: demand_kwh is not a number"),
        ("1,1,4,0.40925,0.0", "1,1,4,-1,0.0", "line 2: demand_kwh is not a number from zero up"),
        ("1,1,4,0.40925,0.0", "1,1,4,NaN,0.0", "line 2: demand_kwh is not a number from zero up"),
        ("1,1,4,0.40925,0.0", "1.5,1,4,0.40925,0.0", "line 2: hour is not a whole number"),
        ("1,1,4,0.40925,0.0", "1,18,4,0.40925,0.0", "does not hold the homes 1 to 17"),
        ("1,1,4,0.40925,0.0", "25,1,4,0.40925,0.0", "does not hold the hours 1 to 24"),
        ("1,1,4,0.40925,0.0", "1,1,4", "line 2: demand_kwh is not a number"),
    ],
)
def test_malformed_data_name_the_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "tariff.csv").write_text((DATA / "tariff.csv").read_text())
    (tmp_path / "homes.csv").write_text((DATA / "homes.csv").read_text().replace(old, new))

    with pytest.raises(DataError, match=said):
        read_day(HOMES, tmp_path)


def test_missing_data_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"homes\.csv cannot be read"):
        read_day(HOMES, tmp_path)
