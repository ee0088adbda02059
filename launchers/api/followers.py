"""Followers: clients who read a run that somebody has started, from any of its events on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive, Scope, Send

from ...streaming.attachments import Attachment
from ...streaming.errors import EventsExpired, QueueError
from ...streaming.events import RunFinished
from ...streaming.queues import RunInfo
from .departures import Departure
from .desks import Desk
from .feeds import Feed, Silence
from .last_words import Will
from .patience import within
from .refusals import Refusal, refusal_of
from .replies import KEEP_ALIVE, SSE_HEADERS
from .run_frames import RunFrames

__all__ = ["Followers", "follow"]

LARGEST = 256 * 1024
"""Characters that are sent in one piece, at about."""

PER_PLACE = 4
"""Followers that there may be for each request that may run or wait."""

SHARES = 4
"""Owners that fill all places between them, where each has as many as it may."""

FEWEST = 4
"""Followers that an owner may have at least, as long as there are places."""


class Followers:
    """How many clients follow runs of a desk: no more than there are places, and of each owner no more than its share.

    An owner who has none finds a place even then.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._of: Counter[str | None] = Counter()

    def check(self, owner: str | None) -> None:
        """Refuses where there is no place left for this owner.

        Raises:
            Refusal: 429.
        """
        limits, own = self.desk.admission.limits, self._of[owner]
        places = PER_PLACE * (limits.running + limits.waiting)
        share = places if owner is None else max(FEWEST, places // SHARES)
        if own and (own >= share or self.desk.followers >= places):
            message = "too many clients follow runs here; try again later"
            raise Refusal(429, message, "overloaded", headers={"retry-after": "1"})

    @contextmanager
    def one_more(self, owner: str | None) -> Iterator[None]:
        """Around what one client follows."""
        self._of[owner] += 1
        self.desk.followers += 1
        try:
            yield
        finally:
            self.desk.followers -= 1
            self._of[owner] -= 1
            if not self._of[owner]:
                del self._of[owner]


async def follow(
    followers: Followers,
    info: RunInfo,
    after: int,
    frames: RunFrames,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Sends a run's events after the number `after`, and those that are still to come; leaving disturbs nobody.

    Raises:
        Refusal: 410 where they are not kept any more, 429 where too many follow already.
    """
    desk = followers.desk
    followers.check(info.owner)
    try:
        reader = Attachment(info.id, desk.queue, after)
    except EventsExpired as error:
        raise refusal_of(error) from None
    except QueueError as error:
        raise refusal_of(error, info.id, desk.debug) from None
    with (
        followers.one_more(info.owner),
        reader,
        desk.attending(info.id),
        Departure(receive) as departure,
        Will(desk.last_words, scope) as will,
    ):
        follower = Follower(desk, reader, frames, departure, will, send)
        departure.then(follower.feed.nudge)
        await follower.start(info)
        try:
            await follower.send_all()
        except TimeoutError:
            await departure.force()
        except OSError:
            pass  # it has left


class Follower:
    """One client that follows one run."""

    def __init__(
        self,
        desk: Desk,
        reader: Attachment,
        frames: RunFrames,
        departure: Departure,
        will: Will,
        send: Send,
    ) -> None:
        self.feed = Feed(reader)
        self._desk, self._reader, self._frames = desk, reader, frames
        self._departure, self._will, self._send = departure, will, send

    async def start(self, info: RunInfo) -> None:
        headers = [*SSE_HEADERS, (b"x-run-id", info.id.encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def send_all(self) -> None:
        """To the end of the run, or until the client leaves."""
        parts: list[str] = []
        size = 0
        with Silence(self.feed, self._desk.timings) as silence:
            silence.begin()
            while not self._departure.over:
                try:
                    event = self.feed.take()
                except EventsExpired:
                    break  # more was said than is kept before this client took it; its next request is told so
                if event is not None:
                    parts.append(self._frames.frame(event))
                    size += len(parts[-1])
                over = type(event) is RunFinished
                if over or (event is None and size) or size > LARGEST:
                    await self._write("".join(parts), more=not over)
                    parts, size = [], 0
                    silence.broken()
                if over:
                    return
                if event is None:
                    if self._reader.closed:
                        break  # it has been told the end before
                    await self._wait(silence)
            if not self._departure.over:
                await self._write("", more=False)

    async def _wait(self, silence: Silence) -> None:
        if silence.too_long:
            silence.broken()
            await self._write(KEEP_ALIVE, more=True)
        else:
            await self.feed.wait()

    async def _write(self, text: str, more: bool) -> None:
        if not more:
            self._will.take_back()
        message = {"type": "http.response.body", "body": text.encode(), "more_body": more}
        await within(self._desk.timings.write_idle, self._send(message))
        if more:
            self._will.make(cut_off)


def cut_off() -> str:
    """What a client is told where the process dies by which it follows a run; that may go on in another one."""
    message = "the process that sent this has died; ask again with Last-Event-ID, to go on where this ends"
    return f"event: error\ndata: {Refusal(503, message, 'follower_lost').as_json()}\n\n"
