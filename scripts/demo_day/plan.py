"""Who issues and who buys what in each hour, and what everybody should own in the end. Pure and deterministic."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from demo_day.homes import RecordedHour

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS

# What the grid would pay for a surplus; the data have no such tariff. Between it and the retail price both sides win.
FEED_IN_MICRO_PER_KWH = 60_000


@dataclass(frozen=True)
class Trade:
    """`buyer` buys from `seller` (numbers of homes)."""

    seller: int
    buyer: int
    quantity_wh: int


@dataclass(frozen=True)
class PlannedHour:
    """One delivery period: each home with a surplus issues it, then the trades. Times are UTC."""

    start: int
    delivery_start_ns: int
    delivery_end_ns: int
    price_micro_per_kwh: int
    issued_wh: Mapping[int, int]
    trades: tuple[Trade, ...]

    @property
    def traded_wh(self) -> int:
        return sum(trade.quantity_wh for trade in self.trades)

    def amount_nano(self, trade: Trade) -> int:
        """What the trade costs: Wh × micro per kWh is nano-currency exactly."""
        return trade.quantity_wh * self.price_micro_per_kwh


@dataclass(frozen=True)
class Holding:
    """What a home owns, or should own, after the day."""

    issued_wh: int = 0
    sold_wh: int = 0
    bought_wh: int = 0
    money_nano: int = 0

    @property
    def energy_wh(self) -> int:
        return self.issued_wh - self.sold_wh + self.bought_wh


@dataclass(frozen=True)
class DayPlan:
    """`start_money_nano` is issued to each home before the day."""

    homes: int
    start_money_nano: int
    hours: tuple[PlannedHour, ...]

    @property
    def issued_wh(self) -> int:
        return sum(sum(hour.issued_wh.values()) for hour in self.hours)

    @property
    def issued_nano(self) -> int:
        return self.homes * self.start_money_nano

    @property
    def metered_wh(self) -> int:
        return sum(metered_wh(home, hour) for hour in self.hours for home in hour.issued_wh)

    @property
    def trades(self) -> int:
        return sum(len(hour.trades) for hour in self.hours)

    def trades_of(self, home: int) -> int:
        return sum(home in (trade.seller, trade.buyer) for hour in self.hours for trade in hour.trades)

    def holdings(self) -> dict[int, Holding]:
        """By home, when every flow of the plan has completed."""
        return {home: self._holding(home) for home in range(1, self.homes + 1)}

    def _holding(self, home: int) -> Holding:
        sales = [(hour, trade) for hour in self.hours for trade in hour.trades if trade.seller == home]
        purchases = [(hour, trade) for hour in self.hours for trade in hour.trades if trade.buyer == home]
        earned = sum(hour.amount_nano(trade) for hour, trade in sales)
        paid = sum(hour.amount_nano(trade) for hour, trade in purchases)
        return Holding(
            issued_wh=sum(hour.issued_wh.get(home, 0) for hour in self.hours),
            sold_wh=sum(trade.quantity_wh for _, trade in sales),
            bought_wh=sum(trade.quantity_wh for _, trade in purchases),
            money_nano=self.start_money_nano + earned - paid,
        )


def match(net_wh: Mapping[int, int]) -> tuple[Trade, ...]:
    """Trades min(Σ surplus, Σ deficit): the largest surplus meets the largest deficit, until one side is empty."""
    sellers = _largest_first((home, net) for home, net in net_wh.items() if net > 0)
    buyers = _largest_first((home, -net) for home, net in net_wh.items() if net < 0)
    trades = []
    while sellers and buyers:
        (seller, surplus), (buyer, deficit) = sellers[0], buyers[0]
        quantity = min(surplus, deficit)
        trades.append(Trade(seller, buyer, quantity))
        sellers[0], buyers[0] = (seller, surplus - quantity), (buyer, deficit - quantity)
        sellers = sellers[1:] if surplus == quantity else sellers
        buyers = buyers[1:] if deficit == quantity else buyers
    return tuple(trades)


def plan_day(recorded: tuple[RecordedHour, ...], homes: int, now_ns: int, start_money_nano: int) -> DayPlan:
    """The recorded day as the delivery periods of yesterday (UTC)."""
    yesterday_ns = (now_ns // DAY_NS - 1) * DAY_NS
    return DayPlan(homes, start_money_nano, tuple(_plan_hour(hour, yesterday_ns) for hour in recorded))


def metered_wh(home: int, hour: PlannedHour) -> int:
    """What the home's meter feeds in: up to a tenth more or less than it had promised, the same in every run."""
    promised = hour.issued_wh[home]
    return promised + promised * ((7 * home + 3 * hour.start) % 21 - 10) // 100


def _plan_hour(hour: RecordedHour, midnight_ns: int) -> PlannedHour:
    start_ns = midnight_ns + hour.start * HOUR_NS
    return PlannedHour(
        start=hour.start,
        delivery_start_ns=start_ns,
        delivery_end_ns=start_ns + HOUR_NS,
        price_micro_per_kwh=(FEED_IN_MICRO_PER_KWH + hour.retail_micro_per_kwh) // 2,
        issued_wh={home: net for home, net in sorted(hour.net_wh.items()) if net > 0},
        trades=match(hour.net_wh),
    )


def _largest_first(quantities: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted(quantities, key=lambda one: (-one[1], one[0]))
