"""The only room that knows llama.cpp: weights, sequences and KV, ViT, sampling, log, probes."""

from miloco_edge.llama.activations import ActivationSums as ActivationSums
from miloco_edge.llama.activations import ColumnSums as ColumnSums
from miloco_edge.llama.activations import Modality as Modality
from miloco_edge.llama.activations import Observed as Observed
from miloco_edge.llama.context import N_BATCH as N_BATCH
from miloco_edge.llama.context import Context as Context
from miloco_edge.llama.context import Interrupted as Interrupted
from miloco_edge.llama.context import KVType as KVType
from miloco_edge.llama.context import Run as Run
from miloco_edge.llama.model import TextModel as TextModel
from miloco_edge.llama.native import AbortFlag as AbortFlag
from miloco_edge.llama.native import system_info as system_info
from miloco_edge.llama.offload import free_gpu_bytes as free_gpu_bytes
from miloco_edge.llama.offload import gpu_layers_that_fit as gpu_layers_that_fit
from miloco_edge.llama.sampling import Sampler as Sampler
from miloco_edge.llama.sampling import log_softmax as log_softmax
from miloco_edge.llama.sampling import token_logprob as token_logprob
from miloco_edge.llama.vision import MAX_TOKENS as MAX_TOKENS
from miloco_edge.llama.vision import TOKEN_PIXELS as TOKEN_PIXELS
from miloco_edge.llama.vision import VisionEncoder as VisionEncoder
from miloco_edge.llama.vision import VisionShape as VisionShape
