"""One caller cannot have signatures without end."""

from p2petd.oracle.allowance import Allowance
from p2petd.units import HOUR_NS


def test_r13_a_caller_gets_so_many_in_an_hour_and_others_are_not_touched() -> None:
    allowance = Allowance(per_hour_max=3)
    noon = 12 * HOUR_NS
    assert [allowance.take(b"a", noon + n) for n in range(3)] == [0, 0, 0]
    assert allowance.take(b"a", noon + 10) == HOUR_NS - 10
    assert allowance.take(b"b", noon + 10) == 0
    assert allowance.take(b"a", noon + HOUR_NS - 1) == 1
    assert allowance.take(b"a", noon + HOUR_NS) == 0
