"""A person and the things around them: set for one activity, which they are at or not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.demo.scenes.people import Look
from models.demo.scenes.poses import EXERCISES
from models.demo.scenes.styles import Color

SETTINGS: dict[str, tuple[str, ...]] = {
    "watch_tv": ("side", "behind"),
    "reading": ("sofa_side", "sofa_front", "stand_side", "stand_front"),
    "phone": ("sofa_side", "sofa_front", "stand_side", "stand_front"),
    "esports": ("side", "behind"),
    "workout": tuple(exercise.name for exercise in EXERCISES),
}
"""How the person at each activity may be seen."""

IDLE: dict[str, dict[str, float]] = {
    "watch_tv": {"screen_off": 0.75, "turned_away": 0.25},
    "reading": {"hands_down": 0.65, "drinks": 0.35},
    "phone": {"hands_down": 0.5, "drinks": 0.2, "calls": 0.3},
    "esports": {"screen_off": 0.55, "works": 0.45},
    "workout": {"still": 0.75, "stands": 0.25},
}
"""What the person does instead, with everything for the activity at hand, and how often."""

ABSENT = "absent"
"""Instead of an idle person: no one, and the screen on or off."""

EXTENT: dict[tuple[str, str], tuple[float, float]] = {
    ("watch_tv", "side"): (0.33, 1.0),
    ("watch_tv", "behind"): (0.55, 0.55),
    ("esports", "side"): (0.34, 0.86),
    ("esports", "behind"): (0.52, 0.52),
}
_EXTENT = {"sofa_side": (0.34, 0.66), "sofa_front": (0.54, 0.84), "stand_side": (0.22, 0.6),
           "stand_front": (0.28, 0.62)}  # fmt: skip


@dataclass(frozen=True)
class PersonActor:
    """Someone set for `category`, at it from `start_s` to `end_s` (equal if never)."""

    category: str
    setting: str
    idle: str
    start_s: float
    end_s: float
    look: Look
    x: float
    floor: float
    unit: float
    facing: int
    main: Color
    """Colour of the seat."""
    wood: Color
    accent: Color
    """Colour of the book, the mat, the lights."""
    kind: int
    """Which programme, game, paper or cup."""
    beside: str
    """What else lies on the table: "phone", "book", "cup" or ""."""
    period_s: float
    offset: float
    """Where a movement begins, in its periods."""
    held: float
    """Where it rests while they are not at it."""

    def active(self, t: float) -> bool:
        """Whether they are at it."""
        return self.start_s <= t < self.end_s

    def resembles(self, seconds: float) -> set[str]:
        """What could be taken for a category, as long as it is not there."""
        found = {"phone": {"phone"}, "book": {"reading"}}.get(self.beside, set())
        return found | ({self.category} if self.start_s > 0 or self.end_s < seconds else set())

    @property
    def absent(self) -> bool:
        """Whether everything is there but the person."""
        return self.idle == ABSENT

    @property
    def needs_time(self) -> bool:
        """Whether one frame leaves it open."""
        return self.category == "workout" and self.idle == "still"

    @property
    def screen(self) -> str:
        """ "tv", "monitor" or "": what screen stands there."""
        return {"watch_tv": "tv", "esports": "monitor"}.get(self.category, "")

    def screen_on(self, t: float) -> bool:
        """Whether that screen shows something."""
        left_on = self.absent and self.kind % 2 == 0
        return bool(self.screen) and (
            self.active(t) or left_on or self.idle in ("turned_away", "works")
        )

    def phase(self, t: float) -> float:
        """Where the movement is, 0 to 1 and back."""
        turns = self.offset + t / self.period_s if self.active(t) else self.held
        return 0.5 - 0.5 * math.cos(math.tau * turns)


def extent(category: str, setting: str) -> tuple[float, float]:
    """Room behind and ahead of a person, in body heights."""
    if category == "workout":
        return 0.5, 0.5
    return EXTENT.get((category, setting)) or _EXTENT[setting]


def height(category: str, setting: str) -> float:
    """Room above the floor, in body heights."""
    if setting == "behind":
        return 1.2
    if category == "workout":
        return 1.16
    return 1.03 if setting.startswith("stand") else 0.9
