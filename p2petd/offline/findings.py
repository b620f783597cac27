"""What a verification of a data directory has found, part by part."""

from collections.abc import Callable
from dataclasses import dataclass, field

Say = Callable[[str, int, int], None]
"""Takes what is being done, how much of it, and how much there is."""

FINDINGS_MAX = 20


@dataclass
class Part:
    """One store, or another part of a data directory: facts by name, and a sentence for each of the first findings."""

    name: str
    facts: dict[str, int | str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    count: int = 0

    def found(self, sentence: str, times: int = 1) -> None:
        """Something is wrong; `times` says how many rows or records the sentence stands for."""
        self.count += times
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(sentence)


@dataclass(frozen=True)
class Verification:
    """All parts that there are."""

    parts: tuple[Part, ...]
    seconds: float

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "ok": self.count == 0,
            "seconds": round(self.seconds, 3),
            "parts": [
                {"name": part.name, "facts": part.facts, "findings": part.findings, "count": part.count}
                for part in self.parts
            ],
        }

    def lines(self) -> list[str]:
        """For people: a block for each part."""
        lines = []
        for part in self.parts:
            lines.append(f"{part.name}: {'ok' if part.count == 0 else f'{part.count} findings'}")
            width = max(map(len, part.facts), default=0)
            lines += [f"  {name:<{width}}  {_shown(value)}" for name, value in part.facts.items()]
            lines += [f"  ! {sentence}" for sentence in part.findings]
            if part.count and len(part.findings) == FINDINGS_MAX:
                lines.append("  ! and more like these may follow")
        verdict = "everything agrees" if self.count == 0 else f"{self.count} findings"
        return [*lines, f"{verdict} ({self.seconds:.1f} s)"]


def _shown(value: int | str) -> str:
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else value
