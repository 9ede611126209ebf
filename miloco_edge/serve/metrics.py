"""Figures for Prometheus: how much, how long, how it ended. Never what was said or seen."""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from miloco_edge.serve.settings import ModelFacts
from miloco_edge.types import Answer, Usage

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_SHORT = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One server's figures, in a registry of its own."""

    def __init__(self, facts: ModelFacts) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(namespace="miloco_edge", registry=self._registry)
        self.requests = self._counter("requests", "Requests by route and outcome", "route outcome")
        self.duration = self._seconds("request_duration_seconds", "Until the reply begins")
        self.queue = self._seconds("queue_seconds", "Waiting for a turn")
        self.first_token = self._seconds("time_to_first_token_seconds", "From arrival")
        self.per_token = self._seconds("time_per_output_token_seconds", "After the first", _SHORT)
        self.vision = self._seconds("vision_encode_seconds", "Vision encoder")
        self.prefill = self._seconds("prefill_seconds", "Prompt, visual tokens included")
        self.decode = self._seconds("media_decode_seconds", "Decoding pictures and videos", _SHORT)
        self.overhead = self._seconds("overhead_seconds", "Of a request outside the model", _SHORT)
        self.tokens = self._counter("tokens", "Tokens by kind", "kind")
        self.decisions = self._counter("decisions", "Decisions by answer", "answer")
        self.waiting = self._gauge("queue_depth", "Requests that wait")
        self.active = self._gauge("active_requests", "Requests that have their turn")
        self.up = self._gauge("engine_up", "Whether the engine would answer now")
        build = self._gauge("build_info", "Always 1", "version llama_cpp model file_type sha256")
        build.labels(
            version("miloco-edge"),
            version("llama-cpp-python"),
            facts.name,
            facts.file_type,
            facts.sha256,
        ).set(1)

    def answered(self, answer: Answer) -> None:
        """Count what an answer cost."""
        timings = answer.timings
        self.used(answer.usage)
        if timings.vision_s is not None:
            self.vision.observe(timings.vision_s)
        if timings.prefill_s is not None:
            self.prefill.observe(timings.prefill_s)
        later = answer.usage.completion_tokens - 1
        if timings.generate_s is not None and later > 0:
            self.per_token.observe(timings.generate_s / later)

    def used(self, usage: Usage) -> None:
        """Count tokens."""
        for kind, count in (
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("visual", usage.visual_tokens),
            ("reasoning", usage.thinking_tokens),
            ("completion", usage.completion_tokens),
        ):
            self.tokens.labels(kind).inc(count)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)

    def _counter(self, name: str, help_: str, labels: str) -> Counter:
        return Counter(f"miloco_edge_{name}", help_, labels.split(), registry=self._registry)

    def _gauge(self, name: str, help_: str, labels: str = "") -> Gauge:
        return Gauge(f"miloco_edge_{name}", help_, labels.split(), registry=self._registry)

    def _seconds(self, name: str, help_: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        return Histogram(f"miloco_edge_{name}", help_, registry=self._registry, buckets=buckets)
