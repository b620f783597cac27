"""The report: one JSON document for programs, tables for people."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median

from p2pet.bench.budgets import MEGABYTES, MICROSECONDS, P50_MS, P99_MS, PER_SECOND, SECONDS, Goal, level
from p2pet.bench.load import medians
from p2pet.bench.run import Report, RowResult
from p2pet.cli.output import Plain, print_line, print_table

FORMAT = 1
_UNITS = {PER_SECOND: "/s", P50_MS: " ms p50", P99_MS: " ms p99", MEGABYTES: " MB", SECONDS: " s", MICROSECONDS: " µs"}
_LIMITS = {
    "signatures_made": "Ed25519 signatures made, one core",
    "signatures_verified_single": "signatures verified one by one, one core",
    "signatures_verified_batched": "signatures verified in batches of 512, one core",
    "durable_appends": "durable appends of 512 B, one after the other",
    "tls_frames": "frames of 1 kB over loopback TLS, one way",
    "tls_round_trips": "round trips of 1 kB over loopback TLS, one after the other",
}


def to_json(report: Report) -> str:
    """Numbers are rounded to four digits; docs/benchmarks.md explains the keys."""
    document = {
        "format": FORMAT,
        "started_at": report.started_at,
        "options": {
            "rows": report.options.rows,
            "seconds": report.options.seconds,
            "repeats": report.options.repeats,
        },
        "machine": {**asdict(report.machine), "file_system": report.file_system},
        "limits": asdict(report.limits),
        "rows": [_plain_row(result) for result in report.rows],
        "nodes": [
            {**asdict(node), "data_directory": str(node.data_directory), "memory": asdict(node.memory)}
            for node in report.nodes
        ],
    }
    return json.dumps(_rounded(document), indent=2) + "\n"


def write_json(report: Report, file: Path) -> None:
    """Raises OSError."""
    file.write_text(to_json(report), encoding="utf-8")


def _plain_row(result: RowResult) -> dict[str, Plain]:
    row = result.row
    return {
        "name": row.name,
        "title": row.title,
        "transactions_per_unit": row.transactions,
        "goals": {"floor": row.floor, "reach": row.reach, "dream": row.dream},
        "failure": result.failure,
        "level": level(row, result.metrics) if result.repeats else "failed",
        "median": result.metrics if result.repeats else {},
        "repeats": [asdict(repeat) for repeat in result.repeats],
    }


def _rounded(value: Plain) -> Plain:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value


def print_report(report: Report) -> None:
    """The machine, its limits, the rows, what they cost, and the nodes."""
    machine = report.machine
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    print_line(f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / 1e9:.1f} GB, {machine.kernel}")
    print_line(f"{machine.python}, {packages}; data on {report.file_system}")
    print_line(f"{report.started_at}: median of {report.options.repeats} repeats of {report.options.seconds:g} s")
    limits = asdict(report.limits)
    print_table(
        ("limit of this machine", ">a second"),
        [(_LIMITS[field.name], _number(limits[field.name])) for field in fields(report.limits)],
        "",
    )
    print_table(
        ("row", ">measured", ">p50 ms", ">p99 ms", ">floor", ">reach", ">dream", "met"),
        [_row(result) for result in report.rows],
        "No rows.",
    )
    _print_costs(report)
    print_table(
        ("node", "part", ">resident MB", ">anonymous MB", ">peak MB", ">disk MB", "file system"),
        [
            (
                node.name,
                node.part,
                *(_number(size / 1e6) for size in (node.memory.resident, node.memory.anonymous, node.memory.peak)),
                _number(node.disk_bytes / 1e6),
                node.file_system,
            )
            for node in report.nodes
        ],
        "No nodes.",
    )


def _print_costs(report: Report) -> None:
    measured = [result for result in report.rows if result.repeats and result.row.transactions]
    print_table(
        ("row", "CPU µs a transaction", "mean batch", "appends / 1 000 tx", "signatures / 1 000 tx", ">others, cores"),
        [
            (
                result.row.title,
                _listed(medians([repeat.cpu_us for repeat in result.repeats])),
                _listed(medians([repeat.batches for repeat in result.repeats])),
                _listed(medians([repeat.appends_per_1000 for repeat in result.repeats])),
                _listed(medians([repeat.signatures_per_1000 for repeat in result.repeats])),
                f"{median(repeat.others_cores for repeat in result.repeats):.2f}",
            )
            for result in measured
        ],
        "",
    )


def _row(result: RowResult) -> tuple[str, ...]:
    row = result.row
    goals = (_goal(row.floor), _goal(row.reach), _goal(row.dream))
    if not result.repeats:
        return (row.title, "-", "-", "-", *goals, f"failed: {result.failure}")
    metrics = result.metrics
    latencies = (_number(metrics[name]) if name in metrics else "-" for name in (P50_MS, P99_MS))
    return (row.title, f"{_number(metrics[row.shown])} {row.unit}", *latencies, *goals, level(row, metrics))


def _goal(goal: Goal) -> str:
    return ", ".join(f"{_number(limit)}{_UNITS[name]}" for name, limit in goal.items()) or "-"


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items() if value >= 0.005) or "-"


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"
