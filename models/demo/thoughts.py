"""What is seen in a scene, in words: the facts that lead to an answer.

They are read off the scene's plan, so a chain of thought made of them is true.
"""

from __future__ import annotations

from models.demo.scenes import GESTURES, Actor, Plan
from models.demo.scenes.stations import PersonActor
from models.demo.truths import STATE_RULES, holds
from models.demo.wordings import AND, NAMES, Language

_ACTIVE: dict[str, dict[Language, str]] = {
    "watch_tv": {"en": "{who} faces a TV that is on", "zh": "{who}面对开着的电视"},
    "reading": {"en": "{who} holds an open book or paper", "zh": "{who}拿着打开的书或报纸"},
    "phone": {"en": "{who} looks at a phone in the hand", "zh": "{who}看着手里的手机"},
    "esports": {"en": "{who} sits before a game on the monitor", "zh": "{who}坐在显示游戏的屏幕前"},
    "workout": {"en": "{who} moves up and down", "zh": "{who}反复做动作"},
    "ok": {
        "en": "{who}: thumb and index finger form a ring, the others are up",
        "zh": "{who}拇指和食指成圈，其余手指伸直",
    },
    "thumbs_up": {"en": "{who}: a fist with the thumb up", "zh": "{who}握拳，拇指朝上"},
    "v_sign": {"en": "{who}: index and middle finger are up", "zh": "{who}食指和中指伸直"},
    "shaka": {"en": "{who}: thumb and little finger are out", "zh": "{who}拇指和小指伸出"},
    "open_palm": {"en": "{who}: all five fingers are up", "zh": "{who}五指张开"},
}

_IDLE: dict[tuple[str, str], dict[Language, str]] = {
    ("watch_tv", "screen_off"): {"en": "the TV is off", "zh": "电视关着"},
    ("watch_tv", "turned_away"): {"en": "{who} turns away from the TV", "zh": "{who}背对电视"},
    ("reading", "hands_down"): {"en": "the book lies closed", "zh": "书合着放在桌上"},
    ("reading", "drinks"): {
        "en": "{who} drinks, the book lies closed",
        "zh": "{who}在喝水，书合着",
    },
    ("phone", "hands_down"): {"en": "the phone lies on the table", "zh": "手机放在桌上"},
    ("phone", "drinks"): {
        "en": "{who} drinks, the phone lies on the table",
        "zh": "{who}在喝水，手机放在桌上",
    },
    ("phone", "calls"): {"en": "{who} holds the phone to the ear", "zh": "{who}在打电话"},
    ("esports", "screen_off"): {"en": "the monitor is off", "zh": "显示器关着"},
    ("esports", "works"): {"en": "the monitor shows a document", "zh": "显示器上是文档"},
    ("workout", "still"): {"en": "{who} keeps still", "zh": "{who}保持不动"},
    ("workout", "stands"): {"en": "{who} just stands there", "zh": "{who}只是站着"},
}

_SHAPES: dict[str, dict[Language, str]] = {
    "fist": {"en": "{who}: a fist", "zh": "{who}握拳"},
    "point": {"en": "{who}: only the index finger is up", "zh": "{who}只有食指伸直"},
    "three": {"en": "{who}: three fingers are up", "zh": "{who}三根手指伸直"},
    "four": {"en": "{who}: four fingers are up, the thumb is in", "zh": "{who}四指伸直，拇指收起"},
    "thumbs_down": {"en": "{who}: a fist with the thumb down", "zh": "{who}握拳，拇指朝下"},
    "horns": {"en": "{who}: index and little finger are up", "zh": "{who}食指和小指伸直"},
    "gun": {"en": "{who}: thumb and index finger are out", "zh": "{who}拇指和食指伸出"},
    "pinky": {"en": "{who}: only the little finger is up", "zh": "{who}只有小指伸直"},
    "pinch": {"en": "{who}: thumb and index finger almost touch", "zh": "{who}拇指和食指快要碰到"},
    "": {"en": "no hand is seen", "zh": "没有手"},
}


def facts(plan: Plan, language: Language) -> str:
    """What each actor does, from left to right, as sentences."""
    found = [_fact(plan, i, actor, language) for i, actor in enumerate(plan.actors)]
    if not found:
        found = [{"en": "nobody is in the room", "zh": "房间里没有人"}[language]]
    if language == "zh":
        return "。".join(found) + "。"
    return " ".join(f"{fact[0].upper()}{fact[1:]}." for fact in found)


def evidence(plan: Plan, rule: str, language: Language) -> str:
    """What decides a rule beyond the ten categories, as a sentence; "" for a category."""
    if rule not in STATE_RULES:
        return ""
    held = bool(holds(plan, rule))
    if rule in ("person", "two_people"):
        count = sum(not person.absent for person in plan.persons)
        return {"en": f"People in the room: {count}.", "zh": f"房间里的人数：{count}。"}[language]
    if rule == "tv_on":
        there = plan.room.has("tv") or any(person.screen == "tv" for person in plan.persons)
        words = {
            "en": "A TV is on." if held else "The TV is off." if there else "There is no TV.",
            "zh": "有电视开着。" if held else "电视关着。" if there else "没有电视。",
        }
        return words[language]
    words = {
        "en": "It swings from side to side." if held else "Nothing is waved.",
        "zh": "手左右摆动。" if held else "没有挥手。",
    }
    return words[language]


def sentence(plan: Plan, language: Language) -> str:
    """One sentence about what is seen, as a report."""
    done = [_clause(category, language) for category in plan.categories]
    if done:
        return _stop(AND[language].join(done), language)
    if any(not person.absent for person in plan.persons):
        words = {"en": "someone is in the room", "zh": "房间里有人"}
    elif any(hand.other for hand in plan.hands):
        words = {"en": "someone shows a hand", "zh": "有人伸出手"}
    else:
        words = {"en": "nobody is in the room", "zh": "房间里没有人"}
    return _stop(words[language], language)


def _clause(category: str, language: Language) -> str:
    name = NAMES[category][language]
    if language == "zh":
        verb = (
            "做出" if category in ("ok", "v_sign", "shaka") else "在" * (category not in GESTURES)
        )
        return f"有人{verb}{name}"
    article = "an" if name[0] in "aeiouO" else "a"
    return f"someone shows {article} {name}" if category in GESTURES else f"someone is {name}"


def _stop(words: str, language: Language) -> str:
    return f"{words}。" if language == "zh" else f"{words[0].upper()}{words[1:]}."


def who(plan: Plan, index: int, language: Language) -> str:
    """An actor by its place, if there are two."""
    hand = not isinstance(plan.actors[index], PersonActor)
    side = "" if len(plan.actors) < 2 else ("left", "right")[index]
    if language == "zh":
        return {"left": "左边的", "right": "右边的", "": ""}[side] + ("手" if hand else "人")
    return ("the hand" if hand else "the person") + (f" on the {side}" if side else "")


def _fact(plan: Plan, index: int, actor: Actor, language: Language) -> str:
    name = who(plan, index, language)
    start, end = actor.start_s, actor.end_s
    if actor.category is not None and end > start:
        words = _ACTIVE[actor.category][language].format(who=name)
        if start == 0 and end == plan.seconds:
            return words
        if language == "zh":
            return f"从{start:.1f}秒到{end:.1f}秒{words}"
        return f"from {start:.1f} to {end:.1f} seconds {words}"
    if not isinstance(actor, PersonActor):
        return _SHAPES[actor.other][language].format(who=name)
    if actor.absent:
        return {"en": "nobody is there", "zh": "没有人"}[language]
    return _IDLE[actor.category, actor.idle][language].format(who=name)
