"""HTTP routes that existing clients speak (OpenAI, Ollama, llama-server, Miloco), and MQTT.

Thin: a wire format in, an engine or hub, a wire format out. The routes need the extra `server`,
`mqtt` needs the extra `mqtt`.
"""
