"""What happens now, for whoever watches: a feed of events (`feed.py`), and where they come from (`sources.py`)."""

from gateway.live.feed import Dropped, Kind, LiveEvent, LiveFeed, Reset, Wanted
from gateway.live.sources import Places, Sources

__all__ = ["Dropped", "Kind", "LiveEvent", "LiveFeed", "Places", "Reset", "Sources", "Wanted"]
