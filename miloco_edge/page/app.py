"""The page in Gradio: components, and which function each of them calls. Nothing else is here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from miloco_edge.engine import Engine
from miloco_edge.errors import MilocoEdgeError
from miloco_edge.page.chat import messages
from miloco_edge.page.draw import evidence
from miloco_edge.page.layers import layers
from miloco_edge.page.manifest import quantized, read_manifest
from miloco_edge.page.odds import chart
from miloco_edge.page.scenes import Scenes
from miloco_edge.page.sessions import Given, Session, Sessions
from miloco_edge.page.view import Manner, View
from miloco_edge.page.watch import sentences
from miloco_edge.page.words import LANGUAGES, Language, preferred, word
from miloco_edge.video.address import masked

AT_ONCE = 8
"""Visitors whose work is begun; more wait in line. Those begun take turns, look by look."""
MOST_WAITING = 32
_SPEAK = "(language) => { document.documentElement.lang = language; return [language] }"

Words = Callable[[Language], dict[str, Any]]


class Page:
    """The components of the page; `blocks` is what is served."""

    def __init__(self, engine: Engine, cameras: Sequence[str] = ()) -> None:
        self.engine = engine
        self.sessions = Sessions(Scenes(engine))
        self._spoken: list[tuple[Any, Words]] = []
        self._cameras = dict(enumerate(cameras))
        self.blocks = gr.Blocks(
            analytics_enabled=False, title="miloco-edge", delete_cache=(600, 3000), fill_width=True
        )
        with self.blocks:
            self._head()
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    self._media()
                with gr.Column(scale=3, min_width=320), gr.Tabs():
                    with self._say(gr.Tab, label="ask_tab"):
                        self._asking()
                    with self._say(gr.Tab, label="rules_tab"):
                        self._rules()
                    with self._say(gr.Tab, label="quantize_tab"):
                        self._quantized()
            self._speaking()
            self.blocks.unload(self._leave)
        self.blocks.queue(default_concurrency_limit=AT_ONCE, max_size=MOST_WAITING, api_open=False)

    def close(self) -> None:
        """Stop serving, and all that visitors wait for."""
        self.sessions.close()
        self.blocks.close(verbose=False)

    def _say(self, kind: Any, **keys_and_options: Any) -> Any:
        """A component whose label, info and placeholder are the page's words."""
        speakable = ("label", "info", "placeholder")
        keys = {name: keys_and_options.pop(name) for name in speakable if name in keys_and_options}
        if kind is gr.Button:
            keys["value"] = keys_and_options.pop("value")

        def words(language: Language) -> dict[str, Any]:
            return {name: word(key, language) for name, key in keys.items()}

        component = kind(**words("en"), **keys_and_options)
        self._spoken.append((component, words))
        return component

    def _head(self) -> None:
        with gr.Row(elem_id="head"):
            title = gr.HTML(self._title("en")["value"])
            self._spoken.append((title, self._title))
            self.language = gr.Radio(
                [(name, code) for name, code in LANGUAGES.items()],
                value="en",
                label="Language / 语言",
                elem_id="language",
                scale=0,
                min_width=220,
            )

    def _title(self, language: Language) -> dict[str, Any]:
        model = f"{self.engine.files.name} · {self.engine.files.file_type}"
        return {
            "value": f"<h1>{word('title', language)}</h1>"
            f"<p>{word('promise', language)} <small>{model}</small></p>"
        }

    def _sources(self, language: Language) -> dict[str, Any]:
        names = ["clip", "pictures", "live", *(["camera"] if self._cameras else []), "nothing"]
        return {
            "label": word("look_at", language),
            "choices": [(word(name, language), name) for name in names],
        }

    def _media(self) -> None:
        self.source = gr.Radio(value="clip", elem_id="source", **self._sources("en"))
        self._spoken.append((self.source, self._sources))
        unmirrored = gr.WebcamOptions(mirror=False)
        with gr.Column(elem_id="clip") as clip:
            # Its words never change: a component that is changed is made anew, as Gradio has it,
            # and Gradio's has ffmpeg cut the sound off clips that are read for their frames alone.
            self.clip = gr.Video(
                label=f"{word('clip', 'en')} · {word('clip', 'zh')}", sources=["upload", "webcam"],
                include_audio=False, webcam_options=unmirrored, buttons=[],
            )  # fmt: skip
            self.clip.preprocess = _uploaded
        with gr.Column(visible=False, elem_id="pictures") as pictures:
            self.pictures = self._say(
                gr.File, label="pictures", file_count="multiple", file_types=["image"]
            )
        with gr.Column(visible=False, elem_id="live") as live:
            self.live = self._say(
                gr.Image, label="live", sources=["webcam"], streaming=True,
                webcam_options=unmirrored, buttons=[],
            )  # fmt: skip
        with gr.Column(visible=False, elem_id="camera") as camera:
            self.camera = self._say(
                gr.Dropdown, label="which_camera", value=0 if self._cameras else None,
                choices=[(masked(source), number) for number, source in self._cameras.items()],
            )  # fmt: skip
        self.frames = self._say(
            gr.Slider, label="frames", info="frames_info", minimum=2, maximum=32, step=2, value=6,
            elem_id="frames",
        )  # fmt: skip
        self.tokens = self._say(
            gr.Slider, label="resolution", info="resolution_info", minimum=64, maximum=1024,
            step=16, value=144, elem_id="resolution",
        )  # fmt: skip
        shown = {"clip": clip, "pictures": pictures, "live": live, "camera": camera}
        self.source.change(
            lambda source: [gr.update(visible=source == name) for name in shown],
            self.source, list(shown.values()), queue=False, show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip
        self.live.stream(
            self._film, [self.live], None, stream_every=0.5, time_limit=3600,
            concurrency_limit=None, show_progress="hidden", api_visibility="private",
        )  # fmt: skip

    def _asking(self) -> None:
        self.chat = self._say(
            gr.Chatbot, label="conversation", height=420, render_markdown=False,
            buttons=["copy"], feedback_options=None, allow_file_downloads=False, elem_id="chat",
        )  # fmt: skip
        self.question = self._say(
            gr.Textbox, label="question", placeholder="question_hint", lines=2, max_lines=6,
            max_length=4000, elem_id="question",
        )  # fmt: skip
        with gr.Row():
            ask = self._say(gr.Button, value="ask", variant="primary", elem_id="ask")
            stop = self._say(gr.Button, value="stop", variant="stop", elem_id="stop")
            clear = self._say(gr.Button, value="clear", elem_id="clear")
        with self._say(gr.Accordion, label="controls", open=False):
            self.think = self._say(gr.Checkbox, label="think", elem_id="think")
            self.think_tokens = self._say(
                gr.Slider,
                label="think_tokens",
                minimum=0,
                maximum=2048,
                step=16,
                value=256,
                elem_id="think-tokens",
            )
            self.answer_tokens = self._say(
                gr.Slider, label="answer_tokens", minimum=8, maximum=1024, step=8, value=256,
                elem_id="answer-tokens",
            )  # fmt: skip
            self.deadline = self._say(gr.Number, label="deadline", value=0, minimum=0)
            self.smart_home = self._say(gr.Checkbox, label="smart_home", elem_id="smart-home")
        with self._say(gr.Accordion, label="evidence", open=True):
            self.evidence = gr.HTML(elem_id="evidence")
        asked = [
            self.question, self.source, self.clip, self.pictures, self.camera, self.frames,
            self.tokens, self.think, self.think_tokens, self.answer_tokens, self.deadline,
            self.smart_home, self.language,
        ]  # fmt: skip
        gr.on(
            [ask.click, self.question.submit], self._ask, asked,
            [self.chat, self.evidence, self.question], concurrency_id="model",
            concurrency_limit=AT_ONCE, show_progress="minimal", api_visibility="private",
        )  # fmt: skip
        stop.click(self._stop, queue=False, api_visibility="private")
        gr.on(
            [clear.click, self.chat.clear], self._clear, None, [self.chat, self.evidence],
            queue=False, api_visibility="private",
        )  # fmt: skip

    def _rules(self) -> None:
        self.rules = self._say(
            gr.Textbox, label="rules", placeholder="rules_hint", lines=4, max_length=4000,
            elem_id="rules",
        )  # fmt: skip
        with gr.Row():
            self.threshold = self._say(
                gr.Slider, label="threshold", minimum=0.05, maximum=0.95, step=0.05, value=0.5,
                elem_id="threshold",
            )  # fmt: skip
            self.window = self._say(
                gr.Slider, label="window", minimum=1, maximum=8, step=1, value=3
            )
        with gr.Row():
            watch = self._say(gr.Button, value="watch", variant="primary", elem_id="watch")
            stop = self._say(gr.Button, value="stop", variant="stop", elem_id="stop-watch")
        self.odds = gr.HTML(elem_id="odds")
        watched = [
            self.rules, self.source, self.clip, self.pictures, self.camera, self.tokens,
            self.window, self.threshold, self.language,
        ]  # fmt: skip
        watch.click(
            self._watch, watched, self.odds, concurrency_id="model", concurrency_limit=AT_ONCE,
            show_progress="minimal", api_visibility="private",
        )  # fmt: skip
        stop.click(self._stop_watch, queue=False, api_visibility="private")
        self.threshold.change(
            self._redraw, [self.threshold, self.language], self.odds, queue=False,
            show_progress="hidden", api_visibility="private",
        )  # fmt: skip

    def _quantized(self) -> None:
        brought = self._say(
            gr.File, label="manifest", file_types=[".json"], elem_id="manifest", height=140
        )
        own = self._say(gr.Button, value="own_manifest", elem_id="own-manifest")
        drawn = gr.HTML(elem_id="layers")
        brought.upload(
            self._draw, [brought, self.language], drawn, queue=False, api_visibility="private"
        )
        own.click(self._draw_own, [self.language], drawn, queue=False, api_visibility="private")

    def _speaking(self) -> None:
        components = [component for component, _ in self._spoken]
        drawn = [self.chat, self.evidence, self.odds]
        self.language.change(
            self._speak, [self.language, self.threshold], [*components, *drawn], 
            queue=False, show_progress="hidden", api_visibility="private",
        )  # fmt: skip
        self.language.change(None, [self.language], None, js=_SPEAK)
        self.blocks.load(
            _language, None, self.language, queue=False, show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip

    def _speak(self, language: Language, threshold: float, request: gr.Request) -> list[Any]:
        session = self._session(request)
        return [
            *(gr.update(**words(language)) for _, words in self._spoken),
            messages(session.visit.exchanges, language),
            evidence(session.visit.exchanges, language),
            chart(session.course, threshold, language),
        ]

    def _session(self, request: gr.Request) -> Session:
        return self.sessions.of(str(request.session_hash))

    def _given(
        self, source: Any, clip: Any, pictures: Any, camera: Any, language: Language
    ) -> Given:
        named = None if camera is None else self._cameras[camera]
        return Given(source, clip, pictures or (), named, language)

    def _ask(
        self, question: str, source: Any, clip: Any, pictures: Any, camera: Any, frames: float,
        tokens: float, think: bool, think_tokens: float, answer_tokens: float,
        deadline: float | None, smart_home: bool, language: Language, request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        if not question.strip():
            return
        session = self._session(request)
        given = self._given(source, clip, pictures, camera, language)
        with _shown_to_visitor():
            media = given.media(session.film, int(frames))
        view = View(media, int(frames), int(tokens), smart_home, language)
        manner = Manner(think, int(think_tokens), int(answer_tokens), deadline or None)
        for exchange in session.visit.ask(view, question.strip(), manner):
            said = messages(session.visit.exchanges, language)
            grown = exchange.stage == "done" or not (exchange.text or exchange.thinking)
            drawn = evidence(session.visit.exchanges, language) if grown else gr.skip()
            yield said, drawn, "" if exchange.stage == "looking" else gr.skip()

    def _stop(self, request: gr.Request) -> None:
        self._session(request).visit.stop()

    def _clear(self, request: gr.Request) -> tuple[Any, ...]:
        self._session(request).visit.clear()
        return [], ""

    def _watch(
        self, rules: str, source: Any, clip: Any, pictures: Any, camera: Any, tokens: float,
        seconds: float, threshold: float, language: Language, request: gr.Request,
    ) -> Iterator[str]:  # fmt: skip
        asked = sentences(rules)
        if not asked:
            yield chart((), threshold, language)
            return
        given = self._given(source, clip, pictures, camera, language)
        session = self._session(request)
        watch = self.sessions.watch(str(request.session_hash))
        with _shown_to_visitor():
            clips = given.windows(session, seconds)
            budget = int(tokens * max(1, seconds))
            for course in watch.run(clips, asked, budget, moving=given.moving):
                session.course = course
                yield chart(course, threshold, language)

    def _stop_watch(self, request: gr.Request) -> None:
        self._session(request).watch.stop()

    def _redraw(self, threshold: float, language: Language, request: gr.Request) -> str:
        return chart(self._session(request).course, threshold, language)

    def _film(self, pixels: Any, request: gr.Request) -> None:
        if pixels is not None:
            self._session(request).film.push(pixels)

    def _draw(self, path: str, language: Language) -> str:
        with _shown_to_visitor():
            return layers(read_manifest(Path(path)), language)

    def _draw_own(self, language: Language) -> str:
        if self.engine.files.manifest is None:
            return f"<p>{word('no_manifest', language)}</p>"
        with _shown_to_visitor():
            return layers(quantized(self.engine.files.manifest, self.engine.files.name), language)

    def _leave(self, request: gr.Request) -> None:
        self.sessions.leave(str(request.session_hash))


@contextmanager
def _shown_to_visitor() -> Iterator[None]:
    """What is refused on purpose is a notice on the page, not a fault of it."""
    try:
        yield
    except MilocoEdgeError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise gr.Error(f"{error}{hint}", print_exception=False) from error


def _uploaded(payload: Any) -> str | None:
    """The path of an uploaded or recorded file, as it is."""
    return None if payload is None else str(payload.path)


def _language(request: gr.Request) -> Language:
    """What the address (?lang=zh) or else the browser asks for."""
    asked = request.query_params.get("lang") or request.headers.get("accept-language", "")
    return preferred(asked)
