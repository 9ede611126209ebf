"""Model references: from an alias, a file, a folder or a hub repository to a pair of files.

files = resolve("miloco-7b")
check_pair(read_header(files.text), read_header(files.mmproj))
"""

from miloco_edge.registry.cards import Card as Card
from miloco_edge.registry.cards import load_cards as load_cards
from miloco_edge.registry.gguf_header import GGUFHeader as GGUFHeader
from miloco_edge.registry.gguf_header import TensorInfo as TensorInfo
from miloco_edge.registry.gguf_header import read_header as read_header
from miloco_edge.registry.pair import check_pair as check_pair
from miloco_edge.registry.resolve import ModelFiles as ModelFiles
from miloco_edge.registry.resolve import resolve as resolve
from miloco_edge.registry.resolve import resolve_checkpoint as resolve_checkpoint
from miloco_edge.registry.resolve import write_calibration as write_calibration
