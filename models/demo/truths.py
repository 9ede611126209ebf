"""Which rules hold in a scene, and which are close to holding."""

from __future__ import annotations

from models.demo.scenes import CATEGORIES, Plan
from models.demo.scenes.seeds import Dice

STATE_RULES = ("tv_on", "person", "two_people", "waving")
"""Rules beyond the ten categories."""
STATE_SHARE = 0.25
"""How often one of those is asked about."""


def holds(plan: Plan, rule: str) -> bool | None:
    """Whether a rule holds at some time in the clip; None where it cannot be said."""
    if rule in CATEGORIES:
        return rule in plan.categories
    seen = sum(not person.absent for person in plan.persons)
    if rule == "waving":
        return plan.waving and any(e.category == "open_palm" for e in plan.events)
    if rule == "tv_on":
        times = plan.times_s
        return plan.room.has("tv", "on") or any(
            person.screen == "tv" and any(person.screen_on(t) for t in times)
            for person in plan.persons
        )
    if plan.hands:  # a hand without its owner: is there a person in the room?
        return None
    return seen >= 1 if rule == "person" else seen == 2


def is_hard(plan: Plan, rule: str) -> bool:
    """Whether a rule that does not hold was come near on purpose."""
    if rule == "waving":
        return any(hand.needs_time for hand in plan.hands)
    if rule == "tv_on":
        return plan.room.has("tv") or any(person.screen for person in plan.persons)
    if rule == "person":
        return any(person.absent for person in plan.persons)
    if rule == "two_people":
        return any(not person.absent for person in plan.persons)
    return rule in plan.near_misses


def choose_rule(plan: Plan, dice: Dice, yes: bool | None, yes_share: float) -> str | None:
    """A rule that holds, as often as `yes_share` where one does, or one that does not.

    Of those that do not, a rule that something was drawn to resemble is preferred. `yes` asks for
    one or the other; None where there is none.
    """
    if dice.chance(STATE_SHARE) and (rule := _state_rule(plan, dice, yes)) is not None:
        return rule
    present = plan.categories
    wanted = (bool(present) and dice.chance(yes_share)) if yes is None else yes
    if wanted:
        return dice.pick(present) if present else None
    absent = [rule for rule in CATEGORIES if rule not in present]
    acted = {c for actor in plan.actors for c in actor.resembles(plan.seconds)}
    close = [rule for rule in absent if rule in acted]
    if close and dice.chance(0.6):
        return dice.pick(close)
    return dice.pick(absent)


def _state_rule(plan: Plan, dice: Dice, yes: bool | None) -> str | None:
    found = []
    for rule in STATE_RULES:
        held = holds(plan, rule)
        if held is not None and yes in (None, held) and dice.chance(_ASKED.get((rule, held), 1.0)):
            found.append(rule)
    return dice.pick(found) if found else None


_ASKED = {
    ("person", True): 0.12,
    ("two_people", False): 0.2,
    ("waving", False): 0.03,
    ("tv_on", False): 0.35,
}
"""How often an answer that most clips give is asked for, so that either is as likely."""
