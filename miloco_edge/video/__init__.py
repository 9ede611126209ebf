"""Pictures and clips: sources, sampling by time, resizing. Knows no model."""

from miloco_edge.video.annotate import contact_sheet as contact_sheet
from miloco_edge.video.annotate import draw as draw
from miloco_edge.video.annotate import draw_sheet as draw_sheet
from miloco_edge.video.clip import Clip as Clip
from miloco_edge.video.clip import Frame as Frame
from miloco_edge.video.fit import FittedClip as FittedClip
from miloco_edge.video.fit import fit as fit
from miloco_edge.video.fit import sizes_of as sizes_of
from miloco_edge.video.resize import smart_resize as smart_resize
from miloco_edge.video.usable import unusable as unusable
