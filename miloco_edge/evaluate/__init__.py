"""How good a model's answers are, and how far two models are apart."""

from miloco_edge.evaluate.compare import Comparison as Comparison
from miloco_edge.evaluate.compare import Sample as Sample
from miloco_edge.evaluate.compare import compare as compare
from miloco_edge.evaluate.journal import Journal as Journal
from miloco_edge.evaluate.journal import Reply as Reply
from miloco_edge.evaluate.manifest import Item as Item
from miloco_edge.evaluate.manifest import read_manifest as read_manifest
from miloco_edge.evaluate.run import Settings as Settings
from miloco_edge.evaluate.run import ask_all as ask_all
from miloco_edge.evaluate.score import score as score
from miloco_edge.evaluate.scores import Scores as Scores
