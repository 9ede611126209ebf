"""What can be seen in a scene, and what is easily taken for it."""

from __future__ import annotations

ACTIVITIES = ("watch_tv", "reading", "phone", "esports", "workout")
GESTURES = ("ok", "thumbs_up", "v_sign", "shaka", "open_palm")
CATEGORIES = ACTIVITIES + GESTURES
"""The five activities and five gestures of Miloco's report, Table 1."""

RESEMBLES: dict[str, tuple[str, ...]] = {
    "fist": ("thumbs_up", "shaka"),
    "point": ("v_sign",),
    "three": ("v_sign", "open_palm"),
    "four": ("open_palm",),
    "thumbs_down": ("thumbs_up",),
    "horns": ("shaka", "v_sign"),
    "gun": ("thumbs_up", "v_sign"),
    "pinky": ("shaka",),
    "pinch": ("ok",),
    "ok": ("open_palm",),
    "shaka": ("thumbs_up",),
    "thumbs_up": ("shaka",),
    "v_sign": ("ok",),
    "open_palm": ("ok",),
}
"""The gestures that a hand shape is close to without being them."""

NEAR_MISSES = ("fist", "point", "three", "four", "thumbs_down", "horns", "gun", "pinky", "pinch")
"""Hand shapes that are none of the five gestures."""
