"""From a Hugging Face checkpoint to a text GGUF and its mmproj, in one streaming pass."""

from quantize.manifest import Manifest
from quantize.pipeline import quantize

__all__ = ["Manifest", "quantize"]
