"""HTTP routes that existing clients speak: OpenAI, Ollama, llama-server, Miloco.

Thin: a wire format in, an engine or hub, a wire format out. Needs the extra `server`.
"""
