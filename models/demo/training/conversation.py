"""What is asked and answered about a scene in training, as token ids with their weights.

The prompt is the runtime's own (miloco_edge.prompt), so the model learns what it will be asked.
Thoughts are sometimes cut short and closed by force, as a thinking budget cuts them, and answers
sometimes follow an empty thought, as the runtime writes one for a model that thinks unasked.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Tokenizer

from miloco_edge.prompt import Text, opening, question
from miloco_edge.prompt.chat import (
    CLOSE_THINK,
    EMPTY_THINK,
    END_OF_TURN,
    MIMO_SYSTEM,
    SMART_HOME,
    ChatFacts,
    Turn,
)
from models.demo.questions import LANGUAGES, Question, Skill, ask
from models.demo.scenes import Scene
from models.demo.scenes.seeds import Dice
from models.demo.training.schedule import Stage
from models.demo.wordings import Part

FACTS = ChatFacts(MIMO_SYSTEM, thinks=True)

PLAIN: dict[Skill, float] = {"name": 3, "rule": 5, "when": 3.5, "where": 3.5, "describe": 0.4}
"""How often each is asked."""
AT_HOME: dict[Skill, float] = {"home_rule": 3, "home": 1}

SMART_HOME_SHARE = 0.15
THINK_SHARE: dict[Stage, float] = {"supervised": 0.35, "wordings": 0.5}
CUT_SHARE = 0.2
"""Of the thoughts, those closed by force."""
EMPTY_SHARE = 0.15
"""Of the direct answers, those after an empty thought."""
FOLLOW_UP_SHARE = 0.08
"""Of the questions, those that follow another one and its answer."""


@dataclass(frozen=True)
class Exchange:
    """A question and its answer, as what follows the media."""

    ids: list[int]
    learn_from: list[bool]
    """For each id, whether the model is to say it."""
    about: Question
    think: bool


@dataclass(frozen=True)
class Conversation:
    """Several exchanges about one scene, each of which knows nothing of the others."""

    opening: list[int]
    exchanges: list[Exchange]


def spoken(item: Question, *, think: bool) -> str:
    """All that the model says to a question, but the end of its turn."""
    return f"<think>\n{item.thinking}\n</think>\n{item.answer}" if think else item.answer


def converse(
    scene: Scene, tokenizer: Tokenizer, count: int, draw: int = 0, stage: Stage = "supervised"
) -> Conversation:
    """`count` exchanges about a scene as a stage asks; the same ones every time for a `draw`."""
    dice = Dice(scene.plan.seed, "conversation", draw)
    at_home = dice.chance(SMART_HOME_SHARE)
    language, system = None, MIMO_SYSTEM
    if at_home:
        language = dice.weighted(LANGUAGES)
        system = SMART_HOME[language]
    exchanges: list[Exchange] = []
    while len(exchanges) < count:
        skill = dice.weighted(AT_HOME if at_home else PLAIN)
        wordings: Part = "first" if stage == "supervised" else "all"
        item = ask(scene, dice, skill, language=language, wordings=wordings)
        if item is None:
            continue
        earlier = exchanges[-1].about if exchanges and dice.chance(FOLLOW_UP_SHARE) else None
        think = not at_home and dice.chance(THINK_SHARE[stage])
        exchanges.append(_exchange(item, earlier, think, tokenizer, dice))
    return Conversation(encode(opening(system), tokenizer), exchanges)


def encode(pieces: list[Text], tokenizer: Tokenizer) -> list[int]:
    """Token ids of a prompt's pieces."""
    return [id for piece in pieces for id in ids_of(piece.text, tokenizer)]


def prompt_ids(item: Question, tokenizer: Tokenizer, think: bool) -> list[int]:
    """What follows the media when one question is asked."""
    return encode(question(item.question, history=(), think=think, facts=FACTS), tokenizer)


def _exchange(
    item: Question, earlier: Question | None, think: bool, tokenizer: Tokenizer, dice: Dice
) -> Exchange:
    history = [Turn(earlier.question, earlier.answer)] if earlier else []
    asked = encode(question(item.question, history=history, think=think, facts=FACTS), tokenizer)
    end = id_of(END_OF_TURN, tokenizer)
    parts: list[tuple[list[int], bool]]
    if think and dice.chance(CUT_SHARE):
        thought = ids_of(f"<think>\n{item.thinking}", tokenizer)
        kept = thought[: 3 + dice.below(len(thought) - 3)]
        close = ids_of(CLOSE_THINK, tokenizer)
        parts = [(kept, True), (close, False), ([*ids_of(item.answer, tokenizer), end], True)]
    elif think:
        parts = [([*ids_of(spoken(item, think=True), tokenizer), end], True)]
    else:
        empty = ids_of(EMPTY_THINK, tokenizer) if dice.chance(EMPTY_SHARE) else []
        parts = [(empty, False), ([*ids_of(item.answer, tokenizer), end], True)]
    ids, learn = list(asked), [False] * len(asked)
    for part, said in parts:
        ids += part
        learn += [said] * len(part)
    return Exchange(ids, learn, item, think)


def id_of(token: str, tokenizer: Tokenizer) -> int:
    """The id of one token by its name. Raises KeyError where the vocabulary lacks it."""
    found: int | None = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(token)
    return found


def ids_of(text: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of a text by itself."""
    return list(tokenizer.encode(text, add_special_tokens=False).ids)
