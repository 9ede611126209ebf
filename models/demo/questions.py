"""Questions about a scene, with answers and thoughts that follow from its ground truth.

for question in questions(render(seed), 4): ...
ask(scene, Dice(1), "rule", category="reading", yes=True)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from miloco_edge.prompt.chat import DESCRIBE
from models.demo import truths
from models.demo.scenes import CATEGORIES, Event, Scene
from models.demo.scenes.seeds import Dice
from models.demo.scenes.stations import PersonActor
from models.demo.thoughts import evidence, facts, sentence, who
from models.demo.wordings import (
    AND,
    DOING,
    DOING_RULE,
    HOME,
    NAME,
    NAMES,
    NONE,
    RULE,
    STATES,
    SUBJECT,
    WHEN,
    WHERE,
    YES_NO,
    Language,
    Part,
    Templates,
    target_words,
)

Skill = Literal["name", "rule", "when", "where", "home_rule", "home", "describe"]
Task = Literal["binary", "temporal", "point", "exact"]

SKILLS: dict[Skill, float] = {
    "name": 3, "rule": 5, "when": 2, "where": 2, "home_rule": 1.5, "home": 0.5, "describe": 0.5,
}  # fmt: skip
"""How often each is asked."""

LANGUAGES: dict[Language, float] = {"en": 0.7, "zh": 0.3}

YES_SHARE = 0.76
"""Of the rules asked of a scene where some rule holds: this makes half of all answers a yes."""
HELD_OUT_SHARE = 0.5
"""Of the questions of a test, those worded as training never words them."""


@dataclass(frozen=True)
class Question:
    """A question about a scene and all that is needed to learn from it or to judge an answer."""

    skill: Skill
    task: Task
    language: Language
    question: str
    answer: str
    """What to say at once (/no_think)."""
    thinking: str
    """What to think first, without the tags."""
    target: str | list[float]
    """"yes" or "no"; [start, end] in seconds; [x0, y0, x1, y1] in pixels; or the answer's text."""
    category: str
    """What it is about: a category, another rule, or "none"."""
    smart_home: bool
    """Asked under the system prompt of miloco_edge.prompt.chat.SMART_HOME, answered in JSON."""
    hard: bool
    """A no to a rule that the scene was drawn to come near."""
    held_out: bool
    """Worded as training never words it."""
    actors: tuple[int, ...]
    """Whom a right answer is about, as indices into Plan.actors; () for all or nobody."""
    conclusion: str
    """What `thinking` ends with, after what is seen."""


def questions(scene: Scene, count: int, *, draw: int = 0) -> list[Question]:
    """`count` questions about a scene; another `draw` gives others. The same ones every time."""
    dice = Dice(scene.plan.seed, "questions", draw)
    found: list[Question] = []
    while len(found) < count:
        question = ask(scene, dice, dice.weighted(SKILLS))
        if question is not None:
            found.append(question)
    return found


def ask(
    scene: Scene,
    dice: Dice,
    skill: Skill,
    *,
    category: str | None = None,
    yes: bool | None = None,
    language: Language | None = None,
    wordings: Part = "first",
) -> Question | None:
    """A question that needs `skill`; None where the scene does not allow it.

    `category` says what it is to be about and `yes` what a rule's answer is to be. In the test
    splits half of the questions are worded as training never words them.
    """
    spoken = language if language is not None else dice.weighted(LANGUAGES)
    test = scene.plan.split in ("test", "style")
    part: Part = "held_out" if test and dice.chance(HELD_OUT_SHARE) else wordings
    speaker = _Speaker(scene, dice, spoken, part)
    if skill in ("rule", "home_rule"):
        return speaker.rule(category, yes, smart_home=skill == "home_rule")
    if skill == "when":
        return speaker.when(category)
    if skill == "where":
        return speaker.where(category)
    if category is not None and category not in (scene.plan.categories or ("none",)):
        return None
    return {"name": speaker.name, "home": speaker.home, "describe": speaker.describe}[skill]()


@dataclass(frozen=True)
class _Speaker:
    """Asks about one scene, in one language."""

    scene: Scene
    dice: Dice
    language: Language
    wordings: Part

    def rule(self, rule: str | None, yes: bool | None, *, smart_home: bool) -> Question | None:
        plan, dice = self.scene.plan, self.dice
        rule = rule or truths.choose_rule(plan, dice, yes, YES_SHARE)
        holds = None if rule is None else truths.holds(plan, rule)
        if rule is None or holds is None or (yes is not None and holds != yes):
            return None
        word = YES_NO[self.language][holds]
        answer = json.dumps({"result": word}, ensure_ascii=False) if smart_home else word
        hard = not holds and truths.is_hard(plan, rule)
        return self._made(
            "home_rule" if smart_home else "rule", "binary", self._rule_words(rule), answer,
            evidence(plan, rule, self.language),
            ("no", "yes")[holds], rule, smart_home=smart_home, hard=hard,
            actors=tuple(event.actor for event in plan.events if event.category == rule),
        )  # fmt: skip

    def name(self) -> Question:
        plan, language = self.scene.plan, self.language
        names = [NAMES[category][language] for category in plan.categories]
        answer = AND[language].join(names) or NONE[language]
        so = {"en": f"So it is: {answer}.", "zh": f"所以是：{answer}。"}[language]
        return self._made("name", "exact", self._pick(NAME), answer, so, answer, self._about())

    def when(self, category: str | None) -> Question | None:
        plan, language = self.scene.plan, self.language
        event = self._event(category)
        if event is not None:
            words = self._pick(WHEN).format(doing=self._doing(event.category))
            start, end = f"{event.start_s:.1f}", f"{event.end_s:.1f}"
            answer = {"en": f"{start} - {end} seconds", "zh": f"{start} - {end} 秒"}[language]
            so = {"en": f"So it lasts from {start} to {end}.", "zh": f"所以从{start}到{end}。"}
            span = [event.start_s, event.end_s]
            return self._made(
                "when", "temporal", words, answer, so[language], span, event.category,
                actors=(event.actor,),
            )  # fmt: skip
        absent = category or self.dice.pick(CATEGORIES)
        if absent in plan.categories or (category is None and self.dice.chance(0.5)):
            return None
        words = self._pick(WHEN).format(doing=self._doing(absent))
        so = {"en": "So it never happens.", "zh": "所以没有发生。"}
        return self._made(
            "when", "exact", words, NONE[language], so[language], NONE[language], absent
        )

    def where(self, category: str | None) -> Question | None:
        plan, language = self.scene.plan, self.language
        event = self._event(category)
        if event is not None and (category is not None or self.dice.chance(0.7)):
            index: int = event.actor
            box = self.scene.box(index, event)
        else:
            seen = [i for i in range(len(plan.actors)) if self.scene.box(i) is not None]
            if category is not None or not seen:
                return None
            event, index = None, self.dice.pick(seen)
            box = self.scene.box(index)
        if box is None:
            return None
        thing = "person" if isinstance(plan.actors[index], PersonActor) else "hand"
        side = ("left", "right")[index] if len(plan.actors) == 2 and event is None else ""
        about = event.category if event else None
        words = self._pick(WHERE).format(target=target_words(thing, side, about, language))
        corners = [round(v) for v in box]
        # Whose box it is comes before the box: the first digit alone would have to say it.
        name = who(plan, index, language)
        label = name.removeprefix("the ")
        answer = json.dumps([{"label": label, "bbox_2d": corners}], ensure_ascii=False)
        so = {
            "en": f"So it is {name}. Its box is {corners}.",
            "zh": f"所以是{name}。位置是{corners}。",
        }[language]
        return self._made(
            "where", "point", words, answer, so, [float(v) for v in corners], about or thing,
            actors=(index,),
        )  # fmt: skip

    def home(self) -> Question:
        text = sentence(self.scene.plan, self.language)
        answer = json.dumps({"result": text}, ensure_ascii=False)
        return self._made(
            "home", "exact", self._pick(HOME), answer, "", answer, self._about(), smart_home=True
        )

    def describe(self) -> Question:
        text = sentence(self.scene.plan, self.language)
        return self._made(
            "describe", "exact", DESCRIBE[self.language], text, "", text, self._about(), fixed=True
        )

    def _made(
        self, skill: Skill, task: Task, words: str, answer: str, so: str,
        target: str | list[float], category: str, *, smart_home: bool = False, hard: bool = False,
        fixed: bool = False, actors: tuple[int, ...] = (),
    ) -> Question:  # fmt: skip
        gap = " " if self.language == "en" and so else ""
        thinking = facts(self.scene.plan, self.language) + gap + so
        held_out = self.wordings == "held_out" and not fixed
        return Question(
            skill, task, self.language, words, answer, thinking, target, category, smart_home,
            hard, held_out, actors, so,
        )  # fmt: skip

    def _rule_words(self, rule: str) -> str:
        if rule in STATES:
            text = self.dice.pick(STATES[rule][self.language])
        elif self.dice.chance(0.35):
            return self._pick(DOING_RULE).format(doing=self._doing(rule))
        else:
            text = self._pick(SUBJECT).format(doing=self._doing(rule))
        return self._pick(RULE).format(rule=text, lower=text[0].lower() + text[1:])

    def _event(self, category: str | None) -> Event | None:
        """An event that is the only one of its category; of `category`, if given."""
        events = self.scene.plan.events
        named = [event.category for event in events]
        single = [
            event
            for event in events
            if named.count(event.category) == 1 and category in (None, event.category)
        ]
        return self.dice.pick(single) if single else None

    def _doing(self, category: str) -> str:
        return self.dice.pick(DOING[category][self.language])

    def _about(self) -> str:
        categories = self.scene.plan.categories
        return categories[0] if len(categories) == 1 else "two" if categories else "none"

    def _pick(self, templates: Templates) -> str:
        return self.dice.pick(templates.of(self.language, self.wordings))
