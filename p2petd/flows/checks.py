"""Verdicts of Rust over proposals and final transactions, for all flows of a batch at once."""

from typing import Any

from p2petd import native
from p2petd.errors import TransactionRefused
from p2petd.flows.requests import CheckFinal, CheckProposal
from p2petd.flows.run import Run

Verdict = native.Checked | TransactionRefused


class Checks:
    """Gathers what flows want checked, so that signatures of many are verified in one batch."""

    def __init__(self, rules: native.Rules) -> None:
        self._rules = rules
        self._waiting: list[tuple[Run, CheckProposal | CheckFinal]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, run: Run, request: CheckProposal | CheckFinal) -> None:
        self._waiting.append((run, request))

    def take(self) -> list[tuple[Run, Verdict]]:
        """What all that waited get."""
        waiting, self._waiting = self._waiting, []
        answers: list[tuple[Run, Verdict]] = []
        for complete in (False, True):
            some = [(r, q) for r, q in waiting if isinstance(q, CheckProposal) and q.require_all_signatures == complete]
            if some:
                answers += _paired(some, self._rules.check_proposals([q.proposal for _, q in some], complete))
        for signers in (False, True):
            finals = [(r, q) for r, q in waiting if isinstance(q, CheckFinal) and q.signers == signers]
            if finals:
                pairs = [(q.signed_transaction, q.finality_proof) for _, q in finals]
                answers += _paired(finals, self._rules.check_finals(pairs, verify_signers=signers))
        return answers


def _paired(
    waiting: list[tuple[Run, Any]], verdicts: list[native.Checked | native.Refusal]
) -> list[tuple[Run, Verdict]]:
    return [(run, _verdict(verdict)) for (run, _), verdict in zip(waiting, verdicts, strict=True)]


def _verdict(verdict: native.Checked | native.Refusal) -> Verdict:
    if isinstance(verdict, native.Refusal):
        return TransactionRefused(verdict.code, verdict.message, tuple(verdict.missing_keys))
    return verdict
