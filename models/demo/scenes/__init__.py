"""Drawn home scenes: short clips and all that is true of them, from a seed.

scene = render(7)            # frames, rate and ground truth
scene = render(next(iter(SEEDS["test"])))
"""

from models.demo.scenes.categories import ACTIVITIES as ACTIVITIES
from models.demo.scenes.categories import CATEGORIES as CATEGORIES
from models.demo.scenes.categories import GESTURES as GESTURES
from models.demo.scenes.compose import plan as plan
from models.demo.scenes.render import render as render
from models.demo.scenes.render import source_frames as source_frames
from models.demo.scenes.seeds import SEEDS as SEEDS
from models.demo.scenes.seeds import split_of as split_of
from models.demo.scenes.truth import Actor as Actor
from models.demo.scenes.truth import Event as Event
from models.demo.scenes.truth import Plan as Plan
from models.demo.scenes.truth import Scene as Scene
