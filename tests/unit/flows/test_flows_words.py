"""F04: a peer's words reach a client and the log as one short line, and under no code but a flow's."""

import pytest
from p2pet.store.v1.store_pb2 import MailRow

from p2petd.errors import MESSAGE_MAX, CounterpartyFailed, FlowError, FlowsExhausted, RolledBack, UnknownFlow, spoken
from p2petd.flows.builtin import installed_flows
from p2petd.flows.run import MAIL_ERROR, PEER_WORDS_MAX, mail_outcome

FORGED = "no\n2030-01-01 00:00:00,000 CRITICAL CN=notary the node stops\x1b[2J\r\u2028\u202e"


def outcome(code: str, text: str) -> FlowError:
    error = mail_outcome(MailRow(kind=MAIL_ERROR, error_code=code, error_message=text))
    assert isinstance(error, FlowError)
    return error


def test_f04_words_of_a_peer_cannot_forge_a_line_of_the_log() -> None:
    message = outcome(FlowError.code, FORGED).message
    assert message.isprintable()
    assert len(message.splitlines()) == 1
    assert message.startswith(r"no\n2030-01-01")


def test_f04_words_of_a_peer_are_cut() -> None:
    # Each of these characters is shown as four.
    assert len(outcome(FlowError.code, "\x01" * 900_000).message) <= MESSAGE_MAX
    assert len(outcome(FlowError.code, "x" * 900_000).message) == PEER_WORDS_MAX


@pytest.mark.parametrize("code", [RolledBack.code, "internal", "made.up", "flow.made_up", "flow.refused\nx"])
def test_f04_a_peer_cannot_speak_under_a_code_that_is_not_a_flows(code: str) -> None:
    assert outcome(code, "no").code == FlowError.code


def test_f04_a_peer_may_say_a_code_of_flows() -> None:
    assert outcome(FlowsExhausted.code, "no").code == FlowsExhausted.code


def test_f04_without_a_code_there_are_no_words() -> None:
    error = mail_outcome(MailRow(kind=MAIL_ERROR, error_message="a trace with secrets"))
    assert isinstance(error, CounterpartyFailed)
    assert "secrets" not in error.message


@pytest.mark.parametrize("name", ["x" * 900_000, "\x01" * 900_000, FORGED])
def test_f05_an_unknown_name_is_not_echoed_in_full(name: str) -> None:
    with pytest.raises(UnknownFlow) as refusal:
        installed_flows().get(name, 1)
    assert refusal.value.message.isprintable()
    assert len(refusal.value.message) <= MESSAGE_MAX


def test_f04_text_without_surprises_stays_as_it_is() -> None:
    assert spoken("der Preis ist 0,25 €/kWh") == "der Preis ist 0,25 €/kWh"
