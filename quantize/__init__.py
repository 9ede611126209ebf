"""From a Hugging Face checkpoint to a text GGUF and its mmproj, in one streaming pass."""
