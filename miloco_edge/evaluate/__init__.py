"""How good a model's answers are, and how far two models are apart."""

from miloco_edge.evaluate.compare import Comparison as Comparison
from miloco_edge.evaluate.compare import Sample as Sample
from miloco_edge.evaluate.compare import compare as compare
