"""The conversations of one identity: a list of headings, each opened when it is looked at.

What is in use is one object for all tabs; everything else stands in the archive alone.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ...streaming.errors import QueueError
from ...streaming.messages import Conversation as History
from ...streaming.sessions import new_session_id
from .archives import Archive, Stamp, hashed
from .records import Heading, as_bytes, heading_of, settings_of, turns_of
from .settings import Settings
from .shelves import Shelf, StoredFile
from .turns import Turn

if TYPE_CHECKING:
    from .lives import LiveTurn

__all__ = ["Conversation", "Conversations", "title_of"]

logger = logging.getLogger("millrace.chat")

MOST = 500
"""Conversations of one identity; those unused longest go first."""

MOST_BYTES = 64 * 2**20
"""What they take together, in bytes."""

LARGEST = 4 * 2**20
"""What one takes, in bytes; its oldest turns go first."""

HEAD = 8192
"""Bytes of a file that hold the heading."""

LONGEST_TITLE = 120
SHOWN_TITLE = 48

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


def title_of(question: str) -> str:
    """The first words of a question."""
    words = " ".join(question.split())
    if len(words) <= SHOWN_TITLE:
        return words
    cut = words[: SHOWN_TITLE + 1]
    return (cut.rpartition(" ")[0] or cut[:SHOWN_TITLE]).rstrip(" ,;:.") + "…"


class Conversation:
    """One conversation: its turns, of which at most one goes on (`live`), and the session of its runs."""

    def __init__(self, heading: Heading | None = None, turns: list[Turn] | None = None) -> None:
        now = time.time()
        self.id = heading.id if heading else secrets.token_hex(16)
        self.title = heading.title if heading else ""
        self.session = heading.session if heading else new_session_id()
        self.created = heading.created if heading else now
        self.updated = heading.updated if heading else now
        self.turns = turns or []
        self.settings = Settings()
        self.live: LiveTurn | None = None
        self.deleted = False
        self.changes = 0
        """How often turns have come or gone."""
        self.stamp: Stamp | None = None
        """Of what is kept of it; None while nothing is."""

    @property
    def heading(self) -> Heading:
        return Heading(self.id, self.title, self.session, self.created, self.updated)

    @property
    def busy(self) -> bool:
        return self.live is not None and not self.live.turn.over

    def history(self) -> History:
        """What the next turn sees of the earlier ones."""
        return History(message for turn in self.turns for message in turn.messages())

    def begin(self, question: str, files: Sequence[StoredFile] = ()) -> Turn:
        """The next turn, which is the last from now on."""
        turn = Turn(question, files)
        if not self.title:
            self.title = title_of(question or files[0].name)
        self.turns.append(turn)
        self.changes += 1
        self.updated = turn.asked
        return turn

    def stop(self, reason: str) -> None:
        """Stops the turn that goes on, if one does; without waiting."""
        if self.live is not None:
            self.live.stop(reason)

    async def stopped(self, reason: str) -> None:
        """Stops it, and waits until it has ended."""
        live = self.live
        if live is not None:
            live.stop(reason)
            await live.ended.wait()


class Conversations:
    """All conversations of one identity."""

    def __init__(self, archive: Archive, shelf: Shelf | None = None) -> None:
        self._archive = archive
        self.shelf = shelf
        if shelf is not None:
            shelf.sweep(set(archive.stamps()))
        self._open: WeakValueDictionary[str, Conversation] = WeakValueDictionary()
        self._headings: dict[str, tuple[Stamp, Heading | None]] = {}

    # ------------------------------------------------------------ the list

    def headings(self) -> list[Heading]:
        """Newest first."""
        stamps = self._archive.stamps()
        self._headings = {name: self._heading(name, stamp) for name, stamp in stamps.items()}
        found = [heading for _, heading in self._headings.values() if heading is not None]
        return sorted(found, key=lambda heading: heading.updated, reverse=True)

    async def search(self, words: str) -> list[Heading]:
        """Those that have all of the words in the title, in a question or in an answer; newest first."""
        found, wanted = self.headings(), words.casefold().split()
        if not wanted:
            return found
        return await asyncio.to_thread(
            lambda: [heading for heading in found if self._has(heading, wanted)]
        )  # it may have to read all files

    def busy(self, id: str) -> bool:
        """Whether an answer is on its way in it."""
        conversation = self._open.get(id)
        return conversation is not None and conversation.busy

    def _heading(self, name: str, stamp: Stamp) -> tuple[Stamp, Heading | None]:
        known = self._headings.get(name)
        if known is not None and known[0] == stamp:
            return known
        heading = heading_of(self._archive.read(name, HEAD) or b"")
        if heading is None or hashed(heading.id) != name:
            logger.warning("a conversation cannot be read, and is passed over: %s", name)
            return stamp, None
        return stamp, heading

    def _has(self, heading: Heading, wanted: list[str]) -> bool:
        text = heading.title.casefold()
        if not all(word in text for word in wanted):
            turns = turns_of(self._archive.read(hashed(heading.id)) or b"")
            said = (part for turn in turns for part in (turn.question, turn.text))
            text = "\n".join((text, *said)).casefold()
        return all(word in text for word in wanted)

    # ------------------------------------------------------------ one of them

    def new(self) -> Conversation:
        """An empty one; it is kept, and in the list, with its first question."""
        conversation = Conversation()
        self._open[conversation.id] = conversation
        return conversation

    def open(self, id: str) -> Conversation | None:
        """The conversation, as it is kept now; None where there is none of that id."""
        if not _ID.fullmatch(id):
            return None
        conversation = self._open.get(id)
        if conversation is not None and (conversation.busy or conversation.stamp is None):
            return None if conversation.deleted else conversation
        stamp = self._archive.stamp(hashed(id))
        if conversation is not None and conversation.stamp == stamp:
            return conversation
        content = None if stamp is None else self._archive.read(hashed(id))
        heading = None if content is None else heading_of(content)
        if content is None or heading is None or heading.id != id:
            if conversation is not None:
                conversation.deleted = True
            return None
        if conversation is None:
            conversation = self._open[id] = Conversation(heading, turns_of(content))
        else:  # another process has written it
            conversation.title, conversation.turns = heading.title, turns_of(content)
            conversation.changes += 1
        conversation.settings = settings_of(content)
        conversation.stamp = stamp
        return conversation

    def keep(self, conversation: Conversation) -> None:
        """Writes it down, unless it was deleted or nothing was asked in it; what is too much goes."""
        if conversation.deleted or not conversation.turns:
            return
        content = as_bytes(conversation.heading, conversation.turns, conversation.settings)
        while len(content) > LARGEST and len(conversation.turns) > 1:
            del conversation.turns[: max(1, len(conversation.turns) // 8)]
            content = as_bytes(conversation.heading, conversation.turns, conversation.settings)
        name = hashed(conversation.id)
        try:
            self._archive.write(name, content)
            conversation.stamp = self._archive.stamp(name)
            self._make_room(name)
        except (OSError, QueueError) as error:
            logger.warning("a conversation was not written down: %s", error)

    def cut(self, conversation: Conversation, turn: int) -> None:
        """Takes the turns from that one on away, with the files that no other one names; its own wait for another
        question. Where none is left, nothing is kept.
        """
        taken = conversation.turns[turn:]
        del conversation.turns[turn:]
        conversation.changes += 1
        if conversation.turns:
            self.keep(conversation)
        else:
            self._archive.remove(hashed(conversation.id))
            conversation.stamp = None
        if self.shelf is not None:
            left = [file for one in conversation.turns for file in (*one.files, *one.made)]
            for file in taken[0].files:
                if file not in left:
                    self.shelf.release(file, conversation.id)
            self.shelf.prune(conversation.id, left)

    def rename(self, id: str, title: str) -> None:
        """Gives it another title; an empty one changes nothing."""
        conversation, words = self.open(id), " ".join(title.split())[:LONGEST_TITLE]
        if conversation is not None and words:
            conversation.title = words
            self.keep(conversation)

    def delete(self, id: str) -> None:
        """Removes it, and stops what goes on in it."""
        conversation = self.open(id)
        if conversation is not None:
            conversation.deleted = True
            conversation.stop("the conversation was deleted")
            self._archive.remove(hashed(id))
            if self.shelf is not None:
                self.shelf.forget(id)

    def _make_room(self, newest: str) -> None:
        """Removes the oldest until number and size are as they may be; never one that is in use, or the newest."""
        stamps = self._archive.stamps()
        used = {newest, *(hashed(id) for id, conversation in self._open.items() if conversation.busy)}
        size, left = sum(size for _, size in stamps.values()), len(stamps)
        for (_, bytes), name in sorted((stamp, name) for name, stamp in stamps.items()):
            if left <= MOST and size <= MOST_BYTES:
                break
            if name not in used:
                self._archive.remove(name)
                left, size = left - 1, size - bytes
