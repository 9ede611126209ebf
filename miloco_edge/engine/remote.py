"""An engine behind any OpenAI-compatible server: vLLM, llama-server, another miloco-edge.

Every rule is a request of its own, with the same pictures in front, which the server's prefix cache
holds. p_yes comes from `top_logprobs` where the server gives them and is None where it does not.
"""

from __future__ import annotations

import base64
import io
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from typing import Any, TypeVar, Unpack

from PIL import Image

from miloco_edge.engine.odds import MAX_OUTSIDE_MASS
from miloco_edge.engine.protocol import Emit, EngineState, Pending, QuestionOptions, Seen, refused
from miloco_edge.engine.remote_http import Call, Server
from miloco_edge.errors import ClosedError, EngineDownError, EngineError
from miloco_edge.prompt import Piece
from miloco_edge.prompt.chat import NO_THINK
from miloco_edge.prompt.decision import WORDS, rule_question
from miloco_edge.prompt.thinking import CLOSE, OPEN
from miloco_edge.types import (
    RGB,
    Answer,
    Budget,
    Decision,
    Preprocessor,
    Sampling,
    Timings,
    TokenLogprob,
    TopToken,
    Usage,
)
from miloco_edge.video import Clip, fit

log = logging.getLogger(__name__)
T = TypeVar("T")

_VISUAL_TOKENS = 1024
_MAX_FRAMES = 256
_TOP = 20
_RULE_TOKENS = 16
"""Room for an empty thought before yes or no."""
_UNHURRIED_S = 600.0
_CHECK_S, _CHECK_DOWN_S = 60.0, 5.0
_CHECK_TIMEOUT_S = 5.0


class RemoteEngine:
    """A server that has the model (`WindowEngine`).

    `GET /models` tells its name and whether it is there: every minute, and every five seconds
    while it is not.
    """

    def __init__(self, url: str, *, api_key: str | None = None, slots: int = 1) -> None:
        self.slots = slots
        self._server = Server(url, api_key=api_key)
        self._state: EngineState = "unloaded"
        self._name = ""
        self._failure: EngineDownError | None = None
        self._pool = ThreadPoolExecutor(4 * slots + 4, thread_name_prefix="miloco-edge-remote")
        self._live: set[Call] = set()
        self._stop = threading.Event()
        self._checker: threading.Thread | None = None
        self._starting = threading.Lock()

    @property
    def name(self) -> str:
        """The server's model; empty before it was first reached."""
        return self._name

    @property
    def state(self) -> EngineState:
        """Whether the server answered when it was last asked."""
        return self._state

    def load(self) -> None:
        """Reach the server; raises EngineDownError where it does not answer."""
        self._check()
        self._watch()

    def unload(self) -> None:
        """The server keeps its model."""

    def close(self) -> None:
        """Stop what is under way."""
        self._state = "closed"
        self._stop.set()
        for call in list(self._live):
            call.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def decide(
        self,
        clip: Clip,
        rules: Sequence[str],
        *,
        budget: Budget | None = None,
    ) -> Pending[Seen]:
        """As WindowEngine.decide; whether a picture is frozen is for the hub to see."""
        budget = budget or Budget()
        end = time.monotonic() + (budget.seconds or _UNHURRIED_S)

        def work(call: Call) -> Seen:
            began = time.perf_counter()
            pictures, visual_tokens = _pictures(clip, budget.visual_tokens)
            usage = Usage(visual_tokens=visual_tokens)
            decisions = []
            for rule in rules:
                decision, cost = self._decide(call, pictures, rule, end)
                decisions.append(decision)
                usage = _added(usage, cost)
            total_s = time.perf_counter() - began
            return Seen(tuple(decisions), usage, Timings(total_s=total_s))

        return self._start(work)

    def ask(
        self,
        clip: Clip | None,
        question: str,
        *,
        emit: Emit | None = None,
        **options: Unpack[QuestionOptions],
    ) -> Pending[Answer]:
        """As WindowEngine.ask; the answer comes in one piece. A grammar is refused."""
        budget = options.get("budget") or Budget()
        sampling = options.get("sampling") or Sampling(temperature=0.3, top_p=0.95)
        if sampling.grammar is not None:
            return refused(
                EngineError(
                    "expected a question without a grammar or schema for its answer, got one: "
                    f"{self._server.shown} may not hold to it",
                    hint="ask a model of this machine, or for the format in words",
                )
            )
        end = time.monotonic() + (budget.seconds or _UNHURRIED_S)
        think = options.get("think", False) and budget.thinking_tokens != 0

        def work(call: Call) -> Answer:
            began = time.perf_counter()
            pictures, visual_tokens = (
                ([], 0) if clip is None else _pictures(clip, budget.visual_tokens)
            )
            messages: list[dict[str, Any]] = []
            if system := options.get("system"):
                messages.append({"role": "system", "content": system})
            for turn in options.get("history", ()):
                messages += [
                    {"role": "user", "content": turn.question},
                    {"role": "assistant", "content": turn.answer},
                ]
            messages.append(_user(pictures, question, think=think))
            body: dict[str, Any] = {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": (budget.answer_tokens or 512)
                + (budget.thinking_tokens or 1024 if think else 0),
            }
            if sampling.seed is not None:
                body["seed"] = sampling.seed
            if stop := options.get("stop"):
                body["stop"] = list(stop)
            if top := options.get("top_logprobs", 0):
                body |= {"logprobs": True, "top_logprobs": min(top, _TOP)}
            try:
                choice, usage = self._complete(call, messages, body, end)
            except TimeoutError:
                reason: Any = "cancelled" if call.cancelled else "deadline"
                return Answer(question, "", None, reason, Usage(), Timings())
            content = choice["message"].get("content") or ""
            thinking, text = _split_thought(content)
            if emit is not None and text:
                emit(Piece(text))
            return Answer(
                question,
                text,
                thinking,
                "length" if choice.get("finish_reason") == "length" else "stop",
                _added(Usage(visual_tokens=visual_tokens), usage),
                Timings(total_s=time.perf_counter() - began),
                logprobs=(tuple(map(_logprob, _said(choice))) or None) if top else None,
                thinking_opened_by="model" if OPEN in content else None,
                thinking_closed_by="model" if CLOSE in content else None,
            )

        return self._start(work)

    def _decide(
        self, call: Call, pictures: list[str], rule: str, end: float
    ) -> tuple[Decision, Usage]:
        body = {
            "temperature": 0,
            "max_tokens": _RULE_TOKENS,
            "logprobs": True,
            "top_logprobs": _TOP,
        }
        message = _user(pictures, rule_question(rule), think=False)
        try:
            choice, usage = self._complete(call, [message], body, end)
        except TimeoutError:
            reason = "cancelled" if call.cancelled else "deadline"
            return Decision(rule, "unknown", None, None, "none", reason), Usage()
        return read_choice(rule, choice), usage

    def _complete(
        self, call: Call, messages: list[dict[str, Any]], body: dict[str, Any], end: float
    ) -> tuple[dict[str, Any], Usage]:
        left = end - time.monotonic()
        if left <= 0 or call.cancelled:
            raise TimeoutError
        if not self._name:
            self._check()
        try:
            found = call.json(
                "POST",
                "/chat/completions",
                {"model": self._name, "messages": messages, **body},
                timeout_s=left,
            )
        except EngineDownError as error:
            self._note(error)
            raise
        try:
            choice: dict[str, Any] = found["choices"][0]
            choice["message"]["content"]
            counted = found.get("usage") or {}
            usage = Usage(
                prompt_tokens=int(counted.get("prompt_tokens") or 0),
                completion_tokens=int(counted.get("completion_tokens") or 0),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EngineError(
                f"{self._server.shown}: expected a chat completion, got something else",
                hint="name the base address of an OpenAI-compatible server, which ends in /v1",
            ) from error
        return choice, usage

    def _check(self) -> None:
        """Ask for the model's name."""
        try:
            found = self._server.call().json("GET", "/models", timeout_s=_CHECK_TIMEOUT_S)
            name = str(found["data"][0]["id"])
        except TimeoutError as error:
            down = EngineDownError(f"{self._server.shown}: no answer in {_CHECK_TIMEOUT_S:.0f} s")
            self._note(down)
            raise down from error
        except (KeyError, IndexError, TypeError) as error:
            down = EngineDownError(f"{self._server.shown}: it names no model")
            self._note(down)
            raise down from error
        except EngineDownError as error:
            self._note(error)
            raise
        self._name = name
        self._note(None)

    def _note(self, failure: EngineDownError | None) -> None:
        if self._state == "closed":
            return
        if failure is not None and self._state != "down":
            log.warning("%s", failure)
        self._state, self._failure = ("down", failure) if failure else ("ready", None)

    def _watch(self) -> None:
        with self._starting:
            if self._checker is None and not self._stop.is_set():
                self._checker = threading.Thread(
                    target=self._keep_checking, name="miloco-edge-remote-check", daemon=True
                )
                self._checker.start()

    def _keep_checking(self) -> None:
        while not self._stop.wait(_CHECK_DOWN_S if self._state == "down" else _CHECK_S):
            try:
                self._check()
            except EngineError as error:
                log.debug("%s", error)

    def _start(self, work: Callable[[Call], T]) -> Pending[T]:
        if self._state == "closed":
            raise ClosedError("expected an open engine, got one that was closed")
        self._watch()
        failure = self._failure
        if self._state == "down" and failure is not None:
            return refused(failure)
        call = self._server.call()
        self._live.add(call)
        future: Future[T] = self._pool.submit(work, call)
        future.add_done_callback(lambda _: self._live.discard(call))
        return Pending(future, call.cancel)


def read_choice(rule: str, choice: dict[str, Any]) -> Decision:
    """The decision in a completion that begins with yes or no: off its odds, else off the word.

    Thoughts and blanks before it are passed over.
    """
    _, text = _split_thought(choice["message"].get("content") or "")
    said = _verdict(text)
    if said is None:
        return Decision(rule, "unknown", None, None, "remote", "outside_mass")
    for token in _said(choice):
        if _verdict(str(token.get("token", ""))) is None:
            continue
        mass = {"yes": 0.0, "no": 0.0}
        top = token.get("top_logprobs") or [token]
        for candidate in top:
            verdict = _verdict(str(candidate["token"]))
            if verdict is not None:
                mass[verdict] += math.exp(float(candidate["logprob"]))
        known = mass["yes"] + mass["no"]
        if not 0 < known < 1.01:
            break
        p_yes, outside = mass["yes"] / known, min(max(1 - known, 0.0), 1.0)
        if outside > MAX_OUTSIDE_MASS:
            return Decision(rule, "unknown", p_yes, outside, "remote", "outside_mass")
        return Decision(rule, "yes" if p_yes >= 0.5 else "no", p_yes, outside, "remote")
    return Decision(rule, "yes" if said == "yes" else "no", None, None, "remote")


def _said(choice: dict[str, Any]) -> list[dict[str, Any]]:
    """The tokens of the answer with their log probabilities, without those of a thought."""
    tokens = (choice.get("logprobs") or {}).get("content") or []
    written = accumulate(str(token.get("token", "")) for token in tokens)
    thoughts = next((n for n, text in enumerate(written, 1) if CLOSE in text), 0)
    return list(tokens[thoughts:])


def _logprob(token: dict[str, Any]) -> TokenLogprob:
    top = tuple(_candidate(each) for each in token.get("top_logprobs") or ())
    chosen = _candidate(token)
    return TokenLogprob(chosen.token, chosen.id, chosen.logprob, top)


def _candidate(token: dict[str, Any]) -> TopToken:
    # llama-server numbers its tokens, OpenAI's format does not.
    return TopToken(str(token["token"]), int(token.get("id", -1)), float(token["logprob"]))


def _verdict(text: str) -> str | None:
    """Whether a text begins with a word for yes or no, as a whole word."""
    text = text.strip(" \n\t\"'.*")
    for verdict, words in WORDS.items():
        for word in words:
            after = text[len(word) : len(word) + 1]
            if text.startswith(word) and not (word.isascii() and after.isalnum()):
                return verdict
    return None


def _split_thought(text: str) -> tuple[str | None, str]:
    before, closed, after = text.partition(CLOSE)
    if not closed:
        return None, text.strip()
    return before.replace(OPEN, "").strip() or None, after.strip()


def _pictures(clip: Clip, visual_tokens: int | None) -> tuple[list[str], int]:
    """The frames as data URIs, fitted to the budget here, so that no more is sent than is used."""
    fitted = fit(clip, Preprocessor(), visual_tokens or _VISUAL_TOKENS, max_frames=_MAX_FRAMES)
    return [_data_uri(frame) for frame in fitted.frames], fitted.visual_tokens


def _data_uri(picture: RGB) -> str:
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"


def _user(pictures: list[str], text: str, *, think: bool) -> dict[str, Any]:
    # /no_think counts only as the last text of the turn (XiaomiMiMo/MiMo-VL#30, #32).
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": picture}} for picture in pictures
    ]
    parts.append({"type": "text", "text": text if think else f"{text} {NO_THINK}"})
    return {"role": "user", "content": parts}


def _added(total: Usage, more: Usage) -> Usage:
    return Usage(
        prompt_tokens=total.prompt_tokens + more.prompt_tokens,
        visual_tokens=total.visual_tokens + more.visual_tokens,
        completion_tokens=total.completion_tokens + more.completion_tokens,
    )
