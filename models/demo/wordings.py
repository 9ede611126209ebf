"""How people ask about a scene, in English and Chinese, and what things are called.

Every list of templates has a part that training begins with, a part that it adds once those are
understood, and a part that is kept from it: a model is tested on wordings that it has never seen as
well as on those that it knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
Part = Literal["first", "all", "held_out"]
"""Of the wordings: those that training begins with, all that it ever uses, those kept from it."""

NAMES: dict[str, dict[Language, str]] = {
    "watch_tv": {"en": "watching TV", "zh": "看电视"},
    "reading": {"en": "reading", "zh": "看书"},
    "phone": {"en": "playing on the phone", "zh": "玩手机"},
    "esports": {"en": "playing esports", "zh": "打电竞"},
    "workout": {"en": "working out", "zh": "健身"},
    "ok": {"en": "OK sign", "zh": "OK手势"},
    "thumbs_up": {"en": "thumbs up", "zh": "竖大拇指"},
    "v_sign": {"en": "V sign", "zh": "V字手势"},
    "shaka": {"en": "shaka sign", "zh": "沙卡手势"},
    "open_palm": {"en": "open palm", "zh": "张开手掌"},
}
"""What a category is called in an answer."""

DOING: dict[str, dict[Language, tuple[str, ...]]] = {
    "watch_tv": {"en": ("watching TV", "watching television"), "zh": ("看电视",)},
    "reading": {"en": ("reading", "reading a book or a newspaper"), "zh": ("看书", "阅读")},
    "phone": {
        "en": ("playing on the phone", "playing with a phone", "using a phone"),
        "zh": ("玩手机",),
    },
    "esports": {
        "en": ("playing esports", "playing a computer game"),
        "zh": ("打电竞", "玩电脑游戏"),
    },
    "workout": {"en": ("working out", "exercising"), "zh": ("健身", "锻炼")},
    "ok": {"en": ("making the OK sign", "showing the OK sign"), "zh": ("做OK手势",)},
    "thumbs_up": {
        "en": ("giving a thumbs up", "making the thumbs up sign"),
        "zh": ("竖大拇指", "做点赞手势"),
    },
    "v_sign": {"en": ("making the V sign", "showing the V sign"), "zh": ("做V字手势",)},
    "shaka": {"en": ("making the shaka sign", "showing the shaka sign"), "zh": ("做沙卡手势",)},
    "open_palm": {"en": ("showing an open palm", "holding up an open palm"), "zh": ("张开手掌",)},
    "waving": {"en": ("waving a hand", "waving"), "zh": ("挥手",)},
}
"""What someone is doing, after "someone is" or 有人在."""

STATES: dict[str, dict[Language, tuple[str, ...]]] = {
    "tv_on": {"en": ("The TV is on", "A television is switched on"), "zh": ("电视开着",)},
    "person": {"en": ("There is a person in the room", "Somebody is there"), "zh": ("房间里有人",)},
    "two_people": {"en": ("Two people are in the room",), "zh": ("房间里有两个人",)},
}
"""Rules that are whole sentences."""


@dataclass(frozen=True)
class Templates:
    """Wordings of a question."""

    first: dict[Language, tuple[str, ...]]
    more: dict[Language, tuple[str, ...]]
    held_out: dict[Language, tuple[str, ...]]

    def of(self, language: Language, part: Part) -> tuple[str, ...]:
        """The wordings in a language, of one part."""
        if part == "held_out":
            return self.held_out[language]
        return self.first[language] + (self.more[language] if part == "all" else ())


RULE = Templates(
    {
        "en": (
            "Does the picture meet the following conditions: {rule}?",
            "Do the images meet the following condition: {rule}.",
            "Is the following true: {rule}?",
            "{rule}. Yes or no?",
            "{rule}",
            "Answer yes or no: {rule}.",
            "Look at the video. Is it true that {lower}?",
        ),
        "zh": (
            "图片是否满足以下条件：{rule}。",
            "画面是否满足条件：{rule}？",
            "{rule}吗？",
            "{rule}",
            "回答是或否：{rule}。",
        ),
    },
    {
        "en": (
            "Is this so: {rule}?",
            "Check the following: {rule}.",
            "True or not: {rule}?",
            "Does this hold in the clip: {rule}?",
            "Judge from the frames whether {lower}.",
            "Tell me whether {lower}. Say yes or no.",
            "{rule}: yes or no?",
            "In the video, is it so that {lower}?",
            "Do you see that {lower}?",
            "Does the camera show this: {rule}?",
        ),
        "zh": (
            "这句话对吗：{rule}？",
            "请判断：{rule}。",
            "视频里{rule}，对不对？",
            "根据画面判断是否{rule}。",
            "{rule}，是还是否？",
            "以下情况是否成立：{rule}？",
            "请看视频，{rule}吗？",
        ),
    },
    {
        "en": (
            "Does the video meet this condition: {rule}?",
            "Look at the images: is it true that {lower}?",
            "Yes or no: {rule}?",
        ),
        "zh": ("视频是否满足以下条件：{rule}？", "是或否：{rule}？"),
    },
)
"""`{rule}` is a sentence without its stop, `{lower}` the same beginning small."""

DOING_RULE = Templates(
    {
        "en": ("Is someone {doing}?", "Is anybody {doing} in this video?", "Is a person {doing}?"),
        "zh": ("有没有人在{doing}？", "画面里有人{doing}吗？"),
    },
    {
        "en": (
            "Do you see anyone {doing}?",
            "Is there someone {doing}?",
            "Can you see a person {doing}?",
            "Is anybody {doing} right now?",
            "In this clip, is someone {doing}?",
        ),
        "zh": (
            "你看到有人在{doing}吗？",
            "这里有没有人{doing}？",
            "视频中有人在{doing}吗？",
            "是不是有人在{doing}？",
        ),
    },
    {"en": ("Is anyone {doing} here?",), "zh": ("视频里有没有人在{doing}？",)},
)

SUBJECT = Templates(
    {"en": ("Someone is {doing}", "A person is {doing}"), "zh": ("有人在{doing}", "有人{doing}")},
    {
        "en": ("Someone in the room is {doing}", "There is someone {doing}", "One is {doing}"),
        "zh": ("画面里有人在{doing}", "某人在{doing}"),
    },
    {"en": ("Somebody is {doing}",), "zh": ("有一个人在{doing}",)},
)

NAME = Templates(
    {
        "en": (
            "What is happening? Name the activity or gesture.",
            "Name the activity or gesture.",
            "Which activity or gesture is in the video?",
            "What is the person doing?",
        ),
        "zh": ("说出画面中的活动或手势。", "画面中是什么活动或手势？", "画面里的人在做什么？"),
    },
    {
        "en": (
            "What activity or gesture is this?",
            "Tell me the activity or gesture in the clip.",
            "What do the frames show? Name the activity or gesture.",
            "Say what is going on: an activity or a gesture.",
            "What does the person do?",
            "Which gesture or activity does the clip show?",
            "Say what the person does.",
            "Can you name the activity or the gesture here?",
        ),
        "zh": (
            "请说出这段视频里的活动或手势。",
            "这是什么活动或手势？",
            "视频里的人正在做什么？",
            "说说视频中的人在干什么。",
            "看到了什么活动或手势？",
            "画面显示的活动或手势叫什么？",
            "视频中出现了哪种手势或活动？",
        ),
    },
    {
        "en": ("Which activity or gesture do you see?", "Name what the person is doing."),
        "zh": ("视频中是什么活动或手势？",),
    },
)

WHEN = Templates(
    {
        "en": (
            "When is someone {doing}? Give start and end in seconds.",
            "From when to when is someone {doing}?",
            "When does this happen in the video: Someone is {doing}?",
            "Find the start and end time of the event: someone is {doing}.",
        ),
        "zh": ("什么时候有人在{doing}？给出起止秒数。", "从几秒到几秒有人在{doing}？"),
    },
    {
        "en": (
            "At what time does someone start and stop {doing}?",
            "Give the time span in which someone is {doing}.",
            "Between which seconds is someone {doing}?",
            "Tell me when someone is {doing}, in seconds.",
            "Start and end in seconds of this event: somebody is {doing}.",
            "How long and when is a person {doing}? Give start and end.",
        ),
        "zh": (
            "有人在{doing}的时间段是什么？",
            "请给出有人{doing}的开始和结束秒数。",
            "视频的哪几秒里有人在{doing}？",
            "有人从什么时候到什么时候在{doing}？",
            "起止时间：有人在{doing}。",
        ),
    },
    {
        "en": ("Give start and end in seconds: when is someone {doing}?",),
        "zh": ("给出起止秒数：什么时候有人在{doing}？",),
    },
)

WHERE = Templates(
    {
        "en": (
            "Where is {target}? Answer with bbox_2d.",
            "Find {target}. Give its bbox_2d in JSON.",
            "Locate {target} and output bbox_2d.",
        ),
        "zh": ("{target}在哪里？用bbox_2d回答。", "找出{target}，输出bbox_2d。"),
    },
    {
        "en": (
            "Draw a box around {target}: bbox_2d.",
            "Give {target} as bbox_2d.",
            "Output the bbox_2d that holds {target}.",
            "Say where {target} is, as bbox_2d in JSON.",
            "What is the bbox_2d of {target}?",
            "Give me the box of {target} in JSON.",
            "Point out {target} with a bbox_2d.",
            "The bbox_2d of {target}, please.",
        ),
        "zh": (
            "给出{target}的bbox_2d。",
            "请框出{target}，用bbox_2d。",
            "{target}的bbox_2d是什么？",
            "输出{target}所在的bbox_2d。",
            "用JSON给出{target}的框。",
            "标出{target}的位置，格式为bbox_2d。",
        ),
    },
    {
        "en": ("Give the bbox_2d of {target}.",),
        "zh": ("用bbox_2d给出{target}的位置。",),
    },
)

HOME = Templates(
    {
        "en": ("What is happening?", "What is the person doing?", "What do you see?"),
        "zh": ("画面中发生了什么？", "画面里的人在做什么？"),
    },
    {
        "en": (
            "What is going on?",
            "What happens in the clip?",
            "Tell me what you see.",
            "What is somebody doing here?",
        ),
        "zh": ("视频里有什么？", "现在发生了什么？", "说说你看到了什么。"),
    },
    {"en": ("What is happening in the video?",), "zh": ("视频中发生了什么？",)},
)

YES_NO: dict[Language, tuple[str, str]] = {"en": ("no", "yes"), "zh": ("否", "是")}
NONE: dict[Language, str] = {"en": "none", "zh": "无"}
AND: dict[Language, str] = {"en": " and ", "zh": "和"}


def target_words(thing: str, side: str, category: str | None, language: Language) -> str:
    """What to look for: a "person" or "hand", which of two, and what it is doing."""
    if language == "zh":
        noun = {"person": "人", "hand": "手"}[thing]
        where = {"left": "左边的", "right": "右边的", "": ""}[side]
        if category is None:
            return where + noun
        return f"{DOING[category]['zh'][0]}的{noun}"
    if category is None:
        return f"the {thing}" + (f" on the {side}" if side else "")
    if thing == "hand":
        return f"the hand that is {DOING[category]['en'][0]}"
    return f"the person who is {DOING[category]['en'][0]}"
