"""The conversations of one identity: kept, listed, searched, renamed, deleted, bounded, and read again."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from millrace import Message
from millrace.launchers.web import conversations as module
from millrace.launchers.web.archives import FileArchives, MemoryArchives, hashed
from millrace.launchers.web.conversations import Conversation, Conversations, title_of
from millrace.launchers.web.exports import as_json, as_markdown, disposition
from millrace.launchers.web.records import turn_as_dict, turn_from_dict
from millrace.launchers.web.shelves import Shelves, StoredFile
from millrace.launchers.web.sides import side
from millrace.launchers.web.turns import Failure, Part, Turn
from millrace.streaming import NamedFile
from millrace.streaming.usage import TokenUsage


def talked(conversations: Conversations, question: str, answer: str = "an answer") -> Conversation:
    """A conversation of one turn, kept."""
    conversation = conversations.new()
    turn = conversation.begin(question)
    turn.add(answer)
    turn.state = "done"
    conversations.keep(conversation)
    return conversation


@pytest.fixture
def kept(tmp_path: Path) -> Conversations:
    return Conversations(FileArchives(tmp_path).of("me"))


def titles(conversations: Conversations) -> list[str]:
    return [heading.title for heading in conversations.headings()]


def again(tmp_path: Path) -> Conversations:
    """As another process finds them."""
    return Conversations(FileArchives(tmp_path).of("me"))


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("What is a Warp?", "What is a Warp?"),
        ("  two\n lines ", "two lines"),
        ("word " * 20, "word word word word word word word word word…"),
        ("x" * 60, "x" * 48 + "…"),
    ],
)
def test_the_title_is_the_first_words(question: str, title: str) -> None:
    assert title_of(question) == title


def test_they_are_found_again_newest_first(kept: Conversations, tmp_path: Path) -> None:
    assert titles(kept) == []
    kept.new()
    first = talked(kept, "first")
    talked(kept, "second")
    assert titles(kept) == ["second", "first"]
    first.begin("more").state = "stopped"
    kept.keep(first)
    assert titles(again(tmp_path)) == ["first", "second"]
    found = again(tmp_path).open(first.id)
    assert found is not None
    assert (found.session, found.title, found.busy) == (first.session, "first", False)
    assert [message.content for message in found.history()] == ["first", "an answer"]


def test_the_one_in_use_is_one_object(kept: Conversations) -> None:
    conversation = talked(kept, "first")
    assert kept.open(conversation.id) is conversation
    assert kept.open("0" * 32) is None
    assert kept.open("../" + conversation.id) is None


def test_what_another_process_wrote_is_seen(kept: Conversations, tmp_path: Path) -> None:
    conversation, other = talked(kept, "first"), again(tmp_path)
    theirs = other.open(conversation.id)
    assert theirs is not None
    theirs.begin("more").state = "done"
    other.keep(theirs)
    assert kept.open(conversation.id) is conversation
    assert [turn.question for turn in conversation.turns] == ["first", "more"]
    other.delete(conversation.id)
    assert kept.open(conversation.id) is None
    kept.keep(conversation)
    assert titles(kept) == []


def test_cutting_removes_the_files_that_no_other_turn_names(tmp_path: Path) -> None:
    archives = FileArchives(tmp_path)
    shelf = Shelves(archives).of("me")
    conversations = Conversations(archives.of("me"), shelf)
    conversation = conversations.new()

    def made(name: str) -> StoredFile:
        return shelf.put(conversation.id, NamedFile(name, name.encode()), 100)

    first, shared, second, third, drawn = map(made, ("first", "shared", "second", "third", "drawn"))
    for files in ((first, shared), (shared, second), (third,)):
        conversation.begin("question", files).state = "done"
    conversation.turns[1].made.append(drawn)
    conversations.cut(conversation, 1)
    names = {path.read_text(): path.parent.name for path in (tmp_path / "files").rglob("*") if path.is_file()}
    assert names == {"first": hashed(conversation.id), "shared": hashed(conversation.id), "second": "waiting"}
    assert shelf.claim(second, conversation.id)
    assert shelf.named(second, conversation.id).read_text() == "second"
    conversations.cut(conversation, 0)
    assert not shelf.claim(second, conversation.id)
    assert shelf.claim(first, conversation.id)
    assert titles(conversations) == titles(again(tmp_path)) == []


def test_deleting_removes_the_file_and_it_stays_away(kept: Conversations, tmp_path: Path) -> None:
    conversation = talked(kept, "secret words")
    talked(kept, "other")
    kept.delete(conversation.id)
    kept.keep(conversation)
    assert titles(kept) == ["other"]
    assert not any(b"secret words" in path.read_bytes() for path in tmp_path.rglob("*.jsonl"))


def test_a_new_title_is_kept(kept: Conversations, tmp_path: Path) -> None:
    conversation = talked(kept, "first")
    kept.rename(conversation.id, "  my \n title " + "x" * 200)
    assert titles(again(tmp_path)) == [("my title " + "x" * 200)[:120]]
    kept.rename(conversation.id, " ")
    assert conversation.title.startswith("my title")


def test_search_finds_words_in_titles_questions_and_answers(kept: Conversations) -> None:
    talked(kept, "About rivers", "They flow.")
    talked(kept, "About mills", "Water drives the WHEEL.")

    def found(words: str) -> list[str]:
        return [heading.title for heading in asyncio.run(kept.search(words))]

    assert found("about") == found("") == ["About mills", "About rivers"]
    assert found("wheel water") == ["About mills"]
    assert found("wheel flow") == []


class TestDamage:
    @pytest.mark.parametrize(
        "content", [b"", b"\x00" * 50, b"{", b"[]\n", b'{"version": 99}\n', b"[" * 100_000]
    )
    def test_a_file_that_cannot_be_read_harms_only_itself(
        self, content: bytes, kept: Conversations, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken = talked(kept, "broken").id
        talked(kept, "whole")
        (tmp_path / hashed("me") / f"{hashed(broken)}.jsonl").write_bytes(content)
        with caplog.at_level(logging.WARNING):
            found = again(tmp_path)
            assert titles(found) == titles(found) == ["whole"]
        assert len(caplog.records) == 1
        assert found.open(broken) is None

    def test_a_line_that_cannot_be_read_is_left_out(self, kept: Conversations, tmp_path: Path) -> None:
        conversation = talked(kept, "one")
        conversation.begin("two").state = "done"
        conversation.begin("three").state = "done"
        kept.keep(conversation)
        file = tmp_path / hashed("me") / f"{hashed(conversation.id)}.jsonl"
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join([*lines[:2], b'{"question": 7}\n', lines[3][:-20]]))
        found = again(tmp_path).open(conversation.id)
        assert found is not None
        assert [turn.question for turn in found.turns] == ["one"]

    def test_a_file_under_a_name_that_is_not_its_own_is_passed_over(
        self, kept: Conversations, tmp_path: Path
    ) -> None:
        conversation = talked(kept, "one")
        folder = tmp_path / hashed("me")
        (folder / f"{hashed(conversation.id)}.jsonl").rename(folder / f"{hashed('x')}.jsonl")
        assert titles(kept) == []

    def test_a_full_disk_is_told_and_the_conversation_goes_on(
        self, kept: Conversations, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / hashed("me")).write_bytes(b"in the way")
        conversation = kept.new()
        conversation.begin("one")
        kept.keep(conversation)
        assert "was not written down" in caplog.text
        assert len(conversation.turns) == 1


class TestBounds:
    def test_the_oldest_go_where_there_are_too_many(
        self, kept: Conversations, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST", 3)
        for number in range(5):
            talked(kept, f"number {number}")
        assert titles(kept) == ["number 4", "number 3", "number 2"]

    def test_the_oldest_go_where_they_are_too_large(
        self, kept: Conversations, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_BYTES", 25_000)
        for number in range(4):
            talked(kept, f"number {number}", "x" * 10_000)
        assert titles(kept) == ["number 3", "number 2"]

    def test_the_oldest_turns_of_a_long_one_go(
        self, kept: Conversations, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "LARGEST", 25_000)
        conversation = talked(kept, "first", "x" * 10_000)
        for question in ("second", "third"):
            conversation.begin(question).add("x" * 10_000)
            kept.keep(conversation)
        assert [turn.question for turn in conversation.turns] == ["second", "third"]


def full_turn() -> Turn:
    turn = Turn("question")
    turn.parts = [Part(("search", 1), reasoning=False), Part((), reasoning=True)]
    for part in turn.parts:
        part.add("on the way")
        part.seconds = 0.5
    turn.add("ans\nwer \ud800 ü")
    turn.failure = Failure("It failed", "Do this.")
    turn.usage, turn.first, turn.state = TokenUsage(3, 4), 0.25, "failed"
    return turn


def test_all_of_a_turn_is_kept() -> None:
    turn = full_turn()
    kept = json.loads(json.dumps(turn_as_dict(turn)))
    found = turn_from_dict(kept)
    assert found is not None
    assert json.loads(json.dumps(turn_as_dict(found))) == kept
    assert (found.note, [part.title for part in found.parts]) == (
        turn.note,
        [part.title for part in turn.parts],
    )


@pytest.mark.parametrize("state", ["waiting", "running", "stopping", "stopped", "odd"])
def test_a_turn_whose_process_has_gone_was_stopped(state: str) -> None:
    found = turn_from_dict({**turn_as_dict(full_turn()), "state": state, "failure": None})
    assert found is not None
    assert found.state == "stopped"
    assert list(found.messages())[1].marks == {"status": "stopped"}


class TestExports:
    def conversation(self) -> Conversation:
        conversation = Conversations(MemoryArchives().of("me")).new()
        turn = conversation.begin("What is\na Warp?")
        turn.parts = [Part(("search",), reasoning=False)]
        turn.parts[0].add("found")
        turn.add("**It** is")
        turn.end()
        failed = conversation.begin("And?")
        failed.end(Failure("Busy right now"))
        return conversation

    def test_markdown(self) -> None:
        assert as_markdown(self.conversation(), "demo") == (
            "# What is a Warp?\n\n## You\n\nWhat is\na Warp?\n\n## demo\n\n**It** is\n\n*stopped*\n\n"
            "## You\n\nAnd?\n\n## demo\n\n*Busy right now.*\n"
        )

    def test_json(self) -> None:
        whole = json.loads(as_json(self.conversation(), "demo"))
        assert whole["messages"] == [
            {"role": "user", "content": "What is\na Warp?"},
            {
                "role": "assistant",
                "content": "**It** is",
                "steps": [{"title": "search", "content": "found"}],
                "status": "stopped",
            },
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "", "status": "failed", "error": "Busy right now"},
        ]
        assert (whole["title"], whole["model"]) == ("What is a Warp?", "demo")

    def test_no_title_leaves_the_name_of_the_file(self) -> None:
        assert disposition('a"\r\n../ü', "md") == (
            b"attachment; filename=\"a...md\"; filename*=UTF-8''a..%C3%BC.md"
        )
        assert b'filename="conversation.md"' in disposition("…", "md")


def test_titles_in_the_list_are_escaped() -> None:
    conversations = Conversations(MemoryArchives().of("me"))
    hostile = talked(conversations, "<img src=x onerror=alert(1)> \" ' ${alert(1)} {{x}}")
    shown = side(conversations.headings(), hostile.id, [hostile.id], "", searched=False)
    assert "<img" not in shown
    assert '"&lt;img' in shown or ">&lt;img" in shown
    assert shown.count("aria-current") == shown.count("mr-busy") == 1
    assert "No conversations yet" in side([], "", [], "", searched=False)
    assert "Nothing found" in side([], "", [], "", searched=True)


def test_partial_text_is_in_the_history_and_marked(kept: Conversations) -> None:
    conversation = kept.new()
    turn = conversation.begin("count")
    turn.add("1 2")
    turn.end()
    assert list(conversation.history()) == [
        Message.user("count"),
        Message.assistant("1 2", status="stopped"),
    ]
