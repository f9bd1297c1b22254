"""Rules of reminding and escalating as people write them."""

import os
import random

import pytest

from buswire.messages import Reminder
from hqconsole.reminders import (
    Escalation,
    RuleError,
    escalation_words,
    parse_escalation,
    parse_rule,
    parse_rules,
    parse_span,
    words,
)

HOUR = 3600.0


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("2h before due", Reminder(from_due_seconds=-2 * HOUR)),
        ("at due", Reminder(from_due_seconds=0)),
        ("When  DUE", Reminder(from_due_seconds=0)),
        ("1 day 30 minutes after due", Reminder(from_due_seconds=24.5 * HOUR)),
        ("every 4h after due", Reminder(from_due_seconds=4 * HOUR, every_seconds=4 * HOUR)),
        ("every 5m from due on", Reminder(from_due_seconds=0, every_seconds=300)),
        (
            "every 4 hours after it is due, at most 6 times, between 08:00 and 20:00",
            Reminder(
                from_due_seconds=4 * HOUR, every_seconds=4 * HOUR, times=6, window=(480, 1200)
            ),
        ),
        (
            "every 30m from 2h before due, 20:30\u20134, 3x",
            Reminder(from_due_seconds=-2 * HOUR, every_seconds=1800, times=3, window=(1230, 240)),
        ),
    ],
)
def test_a_rule_is_read_as_it_is_meant(text: str, rule: Reminder) -> None:
    """Spellings, letter case and the dash of a word processor do not matter."""
    assert parse_rule(text) == rule


def test_one_line_holds_several_rules_and_the_last_bounds_all() -> None:
    """The sentence of an operations manager, word by word."""
    line = "2h before due and every 4h after, 6 times, 08:00 to 20:00"
    assert parse_rules(line) == (
        Reminder(from_due_seconds=-2 * HOUR, window=(480, 1200)),
        Reminder(from_due_seconds=4 * HOUR, every_seconds=4 * HOUR, times=6, window=(480, 1200)),
    )
    with pytest.raises(RuleError, match="is 2 rules"):
        parse_rule(line)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no rule of reminding"),
        ("soon", "no rule of reminding"),
        ("2h", "no rule of reminding"),
        ("every 4h", "no rule of reminding"),
        ("every 2m after due", "would remind every 2m"),
        ("0h before due", "cannot be"),
        ("9999d after due", "cannot be"),
        ("2h before due, 6 times", "not at what pause"),
        ("every 4h after due, 0 times", "0 times"),
        ("every 4h after due, 1001 times", "1001 times"),
        ("every 4h after due, 6 times, 7 times", "bounds nothing"),
        ("every 4h after due, at night", "bounds nothing"),
        ("every 4h after due, 08:00-25:00", "no such hours"),
        ("every 4h after due, 08:70-09:00", "no such hours"),
        ("every 4h after due, 08:00-08:00", "these hours are none"),
        ("x" * 100_000, "no rule of reminding"),
    ],
)
def test_what_is_no_rule_is_refused_with_an_example(text: str, cause: str) -> None:
    """The hint says how to write one."""
    with pytest.raises(RuleError, match=cause) as error:
        parse_rules(text)
    assert error.value.hint
    assert len(str(error.value)) < 200


def test_every_rule_is_read_back_as_it_is_shown() -> None:
    """`hq kinds` can be copied into hq.toml."""
    seed = int(os.environ.get("STOREBUS_TEST_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    draw = random.Random(seed)
    for _ in range(500):
        every = draw.choice([None, draw.randrange(5, 20_000) * 60.0])
        rule = Reminder(
            from_due_seconds=draw.choice([0.0, every or 60.0, draw.randrange(-9999, 9999) * 60.0]),
            every_seconds=every,
            times=100 if every is None else draw.choice([100, draw.randint(1, 1000)]),
            window=draw.choice([None, (480, 1200), (draw.randrange(1, 1440), 0), (0, 1440)]),
        )
        assert parse_rule(words(rule)) == rule, words(rule)
        late = Escalation(late_seconds=draw.randrange(1, 500_000) * 60.0)
        assert parse_escalation(escalation_words(late)) == late


def test_an_escalation_says_how_late_and_to_whom() -> None:
    """Only the region's manager can be told so far."""
    assert parse_escalation("24h late: the region's manager") == Escalation(late_seconds=86_400.0)
    assert parse_escalation("90m after due: regional manager") == Escalation(late_seconds=5400.0)
    for text in ("24h late", "late: region manager", "24h late: the moon", ""):
        with pytest.raises(RuleError) as error:
            parse_escalation(text)
        assert "24h late: region manager" in (error.value.hint or "")
    assert parse_span("1h 30m") == 5400.0
    with pytest.raises(RuleError, match="no span of time"):
        parse_span("30")
