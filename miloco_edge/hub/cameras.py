"""The cameras of a home while it is watched: their frames, their views, and whose turn it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from miloco_edge.hub.clock import Clock
from miloco_edge.hub.connect import feed_for, source_for
from miloco_edge.hub.settings import Home
from miloco_edge.hub.timetable import Timetable
from miloco_edge.hub.watch import Watch, watches
from miloco_edge.video.feed import Feed
from miloco_edge.video.source import Source


class Cameras:
    """Feeds and views by camera. Used by the hub's one thread."""

    def __init__(self, sources: Mapping[str, Source], clock: Clock) -> None:
        self.feeds: dict[str, Feed] = {}
        self.began_s: dict[str, float] = {}
        """Since when each has been watched."""
        self.watches: dict[str, list[Watch]] = {}
        self.table = Timetable({}, clock.steady())
        self._sources, self._clock = sources, clock

    def __iter__(self) -> Iterator[Watch]:
        """All views."""
        return (watch for of_camera in self.watches.values() for watch in of_camera)

    def __contains__(self, watch: Watch) -> bool:
        """Whether the home still has it: rules may be edited while a window is looked at."""
        return watch in self.watches.get(watch.camera, ())

    def furnish(self, home: Home, *, changed: Iterable[str] = ()) -> None:
        """Watch the cameras of a home, `changed` ones anew; memories of views are kept."""
        for name in changed:
            if name in self.feeds:
                self.feeds.pop(name).close(0)
        older = self.watches
        for name, settings in home.cameras.items():
            if name not in self.feeds:
                source = self._sources.get(name) or source_for(settings)
                self.feeds[name] = feed_for(settings, source, self._clock.steady)
                self.feeds[name].start()
                self.began_s[name] = self._clock.steady()
        self.watches = {name: [] for name in home.cameras}
        for watch in watches(home):
            self.watches[watch.camera].append(watch)
            for before in older.get(watch.camera, ()):
                watch.inherit(before)
        intervals = {name: settings.interval_s for name, settings in home.cameras.items()}
        self.table = Timetable(intervals, self._clock.steady())

    def close(self) -> None:
        """Stop all feeds."""
        for feed in self.feeds.values():
            feed.close(0)
