"""Rooms: walls, floor and what hangs or stands there that no one is using."""

from __future__ import annotations

from dataclasses import dataclass

from models.demo.scenes import furniture, objects, screens
from models.demo.scenes.canvas import Canvas
from models.demo.scenes.people import CLOTHES
from models.demo.scenes.screens import Quad
from models.demo.scenes.seeds import Dice
from models.demo.scenes.styles import Color, mix, shade

WALLS = (
    (226, 218, 200), (190, 206, 214), (214, 196, 186), (172, 190, 168), (236, 232, 226),
    (150, 160, 178), (206, 186, 150), (120, 128, 138), (224, 200, 206), (100, 116, 112),
)  # fmt: skip
FLOORS = ((150, 108, 70), (186, 152, 110), (110, 84, 62), (140, 140, 142), (176, 164, 148))
WOODS = ((120, 82, 50), (168, 124, 80), (90, 64, 46), (214, 210, 204), (70, 70, 76))


@dataclass(frozen=True)
class Thing:
    """Something in the room. Lengths in the frame's heights."""

    kind: str
    """"window", "picture", "shelf", "plant", "lamp", "rug", "door", "tv" or "table"."""
    x: float
    size: float
    color: Color
    number: int
    """Chooses among variants."""
    state: str = ""
    """"on" or "off" for a TV; "phone", "book", "cup" or "" for what is on a table."""


@dataclass(frozen=True)
class Room:
    """A room, with the line between wall and floor in the frame's heights from the top."""

    wall: Color
    floor: Color
    horizon: float
    boards: int
    striped: bool
    things: tuple[Thing, ...]

    @property
    def resembles(self) -> tuple[str, ...]:
        """Activities that something in the room hints at."""
        hints = {"tv": "watch_tv", "shelf": "reading", "phone": "phone", "book": "reading"}
        found = [hints.get(name, "") for t in self.things for name in (t.kind, t.state)]
        return tuple(sorted({hint for hint in found if hint}))

    def has(self, kind: str, state: str | None = None) -> bool:
        """Whether such a thing is in the room."""
        return any(t.kind == kind and state in (None, t.state) for t in self.things)


def roll_room(dice: Dice, aspect: float, *, props: bool, tv: bool) -> Room:
    """Any room for a picture `aspect` times as wide as high.

    `props` may leave a phone or a book on a table, `tv` hang a television on the wall.
    """
    slots = max(2, round(aspect * 2.2))
    kinds = {"window": 1.0, "picture": 1.4, "shelf": 1.0, "lamp": 0.7, "door": 0.5, "": 1.2,
             "plant": 0.8, "tv": 0.8 if tv else 0.0}  # fmt: skip
    things: list[Thing] = []
    for i in range(slots):
        kind = dice.weighted(kinds)
        if kind in ("tv", "door", "window"):
            kinds[kind] = 0.0
        x = aspect * (i + 0.5) / slots + dice.uniform(-0.05, 0.05)
        color, size, number = dice.pick(CLOTHES), dice.uniform(0.8, 1.2), dice.below(64)
        if kind:
            state = ("on" if dice.chance(0.5) else "off") if kind == "tv" else ""
            things.append(Thing(kind, x, size, color, number, state))
    if dice.chance(0.4):
        things.append(Thing("rug", aspect * dice.uniform(0.3, 0.7), dice.uniform(0.8, 1.3),
                            dice.pick(CLOTHES), dice.below(64)))  # fmt: skip
    if props:
        state = dice.weighted({"phone": 3, "book": 2, "cup": 1, "": 1})
        things.append(Thing("table", aspect * dice.uniform(0.2, 0.8), dice.uniform(0.8, 1.1),
                            dice.pick(WOODS), dice.below(64), state))  # fmt: skip
    wall = dice.pick(WALLS)
    return Room(
        mix(wall, dice.pick(CLOTHES), dice.uniform(0, 0.25)), dice.pick(FLOORS),
        dice.uniform(0.66, 0.78), dice.below(9), dice.chance(0.25), tuple(things),
    )  # fmt: skip


def draw_room(canvas: Canvas, room: Room, width: int, height: int, margin: int) -> None:
    """The room as a background; `margin` pixels more on every side."""
    h, line = float(height), room.horizon * height
    left, right, low = float(-margin), float(width + margin), float(height + margin)
    canvas.rect(left, -margin, right, line, room.wall, line=False)
    if room.striped:
        step = 0.11 * h
        for i in range(int(width / step) + 1):
            canvas.rect(i * step, -margin, i * step + step * 0.45, line, shade(room.wall, 0.95),
                        line=False)  # fmt: skip
    canvas.rect(left, line, right, low, room.floor, line=False)
    canvas.rect(left, line - 0.018 * h, right, line + 0.006 * h, shade(room.wall, 1.12), line=False)
    for i in range(room.boards):
        x = width * (i + 0.5) / room.boards
        canvas.stroke([(x, line), (x + (x - width / 2) * 0.5, low)], max(1.0, 0.006 * h),
                      shade(room.floor, 0.85))  # fmt: skip
    for thing in room.things:
        if thing.kind != "tv":
            _DRAW[thing.kind](canvas, thing, h, line)


def draw_room_live(canvas: Canvas, room: Room, height: int, t: float) -> None:
    """What moves in the room at `t`: a television on the wall."""
    for thing in room.things:
        if thing.kind == "tv":
            quad = _tv_quad(thing, height)
            furniture.frame(canvas, quad, 0.014 * height)
            if thing.state == "on":
                kind = screens.PROGRAMMES[thing.number % len(screens.PROGRAMMES)]
                screens.draw_programme(canvas, quad, kind, t)
            else:
                screens.draw_off(canvas, quad)


def _tv_quad(thing: Thing, height: float) -> Quad:
    w, h = 0.2 * height * thing.size, 0.115 * height * thing.size
    x, y = thing.x * height, 0.24 * height
    return (x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)


def _window(canvas: Canvas, thing: Thing, h: float, line: float) -> None:
    w, x, y = 0.14 * h * thing.size, thing.x * h, 0.28 * h
    sky = ((150, 205, 245), (240, 200, 150), (40, 50, 90), (205, 215, 222))[thing.number % 4]
    canvas.rect(x - w, y - w * 1.2, x + w, y + w * 1.2, (240, 238, 232))
    canvas.rect(x - w * 0.86, y - w * 1.08, x + w * 0.86, y + w * 1.08, sky, line=False)
    canvas.rect(x - w * 0.05, y - w * 1.1, x + w * 0.05, y + w * 1.1, (240, 238, 232), line=False)
    canvas.rect(x - w * 0.9, y - w * 0.05, x + w * 0.9, y + w * 0.05, (240, 238, 232), line=False)
    if thing.number % 3 == 0:
        for side in (-1, 1):
            near, far = sorted((x + side * w * 0.75, x + side * w * 1.3))
            canvas.rect(near, y - w * 1.35, far, y + w * 1.45, thing.color)


def _picture(canvas: Canvas, thing: Thing, h: float, line: float) -> None:
    w, x, y = 0.085 * h * thing.size, thing.x * h, (0.2 + 0.003 * (thing.number % 32)) * h
    tall = 0.7 if thing.number % 2 else 1.3
    canvas.rect(x - w, y - w * tall, x + w, y + w * tall, shade(WOODS[thing.number % 5], 0.8))
    canvas.rect(x - w * 0.8, y - w * tall * 0.8, x + w * 0.8, y + w * tall * 0.8,
                mix(thing.color, (255, 255, 255), 0.5), line=False)  # fmt: skip
    canvas.disc((x + w * 0.2, y - w * 0.1), w * 0.35, thing.color, line=False)


def _shelf(canvas: Canvas, thing: Thing, h: float, line: float) -> None:
    """Boards with the backs of books."""
    w, x = 0.15 * h * thing.size, thing.x * h
    wood = WOODS[thing.number % 4]
    for row in range(2):
        y = (0.2 + 0.17 * row) * h
        at = x - w * 0.9
        for i in range(9):
            thick = (0.016 + 0.006 * ((thing.number + i * 5 + row) % 3)) * h
            tall = (0.085 + 0.015 * ((thing.number + i * 7 + row) % 3)) * h
            if at + thick > x + w * 0.9:
                break
            if (thing.number + i + row * 3) % 6:
                color = CLOTHES[(thing.number + i * 3 + row) % len(CLOTHES)]
                canvas.rect(at, y - tall, at + thick, y, color)
            at += thick * 1.12
        canvas.rect(x - w, y, x + w, y + 0.014 * h, wood)


def _plant(canvas: Canvas, thing: Thing, h: float, line: float) -> None:
    x, y, s = thing.x * h, line + 0.05 * h, 0.1 * h * thing.size
    for dx, dy in ((-0.9, -1.9), (-0.4, -2.5), (0.2, -2.7), (0.7, -2.2), (1.0, -1.6)):
        canvas.limb([(x, y - s * 0.7), (x + dx * s, y + dy * s)], [0.14 * s, 0.2 * s],
                    (52 + thing.number % 40, 130, 66))  # fmt: skip
    canvas.polygon([(x - 0.55 * s, y - 0.8 * s), (x + 0.55 * s, y - 0.8 * s), (x + 0.4 * s, y),
                    (x - 0.4 * s, y)], (180, 100, 70))  # fmt: skip


def _lamp(canvas: Canvas, thing: Thing, h: float, line: float) -> None:
    x, y, s = thing.x * h, line + 0.04 * h, 0.1 * h * thing.size
    canvas.stroke([(x, y), (x, y - 4 * s)], 0.02 * h, (60, 58, 60))
    canvas.disc((x, y), 0.5 * s, (60, 58, 60), squash=0.3)
    canvas.polygon([(x - 0.4 * s, y - 5 * s), (x + 0.4 * s, y - 5 * s), (x + 0.75 * s, y - 4 * s),
                    (x - 0.75 * s, y - 4 * s)], (250, 232, 180))  # fmt: skip


def _rug(canvas: Canvas, thing: Thing, h: float, line: float) -> None:
    x, y = thing.x * h, line + 0.15 * h
    canvas.disc((x, y), 0.38 * h * thing.size, mix(thing.color, (200, 190, 180), 0.4), squash=0.2)
    canvas.disc((x, y), 0.28 * h * thing.size, thing.color, line=False, squash=0.2)


def _door(canvas: Canvas, thing: Thing, h: float, line: float) -> None:
    w, x = 0.12 * h * thing.size, thing.x * h
    wood = WOODS[thing.number % 4]
    canvas.rect(x - w * 1.1, 0.1 * h, x + w * 1.1, line, shade(wood, 0.75))
    canvas.rect(x - w, 0.12 * h, x + w, line, wood)
    canvas.disc((x + w * 0.75, 0.42 * h), 0.014 * h, (220, 200, 120), line=False)


def _table(canvas: Canvas, thing: Thing, h: float, line: float) -> None:
    unit = 0.85 * h * thing.size
    x, top = furniture.side_table(canvas, thing.x * h, line + 0.12 * h, unit, thing.color)
    if thing.state == "phone":
        objects.lying_phone(canvas, x, top, unit, lit=thing.number % 2 == 0)
    elif thing.state == "book":
        objects.closed_book(canvas, x, top, unit, CLOTHES[thing.number % len(CLOTHES)])
    elif thing.state == "cup":
        objects.cup(canvas, x, top, unit, CLOTHES[thing.number % len(CLOTHES)])


_DRAW = {
    "window": _window, "picture": _picture, "shelf": _shelf, "plant": _plant, "lamp": _lamp,
    "rug": _rug, "door": _door, "table": _table,
}  # fmt: skip
