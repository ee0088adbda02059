"""Which questions the demo model can answer: BM25 over what it was trained on.

The model is a memoriser and answers anything with full confidence, so something else has to know what it knows.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cache
from math import log

from ...streaming.errors import require
from .topics import Knowledge, Topic, knowledge

__all__ = ["TopicIndex", "topic_index"]

THRESHOLD = 0.36
"""Least score of a question's best topic; chosen by the lists in tests/modules/demo/questions.py."""
THRESHOLD_OF_KNOWN_WORDS = 0.2
"""The same where every telling word is known; such questions are mostly about several topics at once."""
UNKNOWN_WEIGHT = 2.0
"""What a word that occurs in no topic weighs, in weights of the rarest known word."""
UNKNOWN_WEIGHT_BESIDE_JARGON = 0.7
"""The same in a question with a word of jargon: "the point of a Warp" is about Warps, "the point of a switch" may
be about anything."""
PHRASE_REPEATS = 3
"""How much more often than the words of its answer a topic counts the words that ask for it."""
PHRASE_LIKENESS = 0.85
WORD_LIKENESS = 0.8
SHORTEST_TYPO = 4
LONG_WORD = 6
LONGEST_QUESTION = 40
"""In words; nothing longer was trained, and looking for typos takes time."""
EXAMPLES = ("Warp", "Session", "Cancelling")
"""Topics to suggest where a question comes near none."""

ASKING_TEXT = """
whats what's wat dont hello hi hey thanks ok okay explain tell describe define definition mean means meant meaning
please use uses used using work works make makes made get gets give good know want need understand help exactly
example point difference may might would could shall much many any actually simply
"""
ASKING = frozenset(ASKING_TEXT.split())
"""Words that ask for something without saying for what."""


def words(text: str) -> list[str]:
    """Lower case, without punctuation and possessive s; `top_p` stays one word."""
    return [word.removesuffix("'s") for word in re.findall(r"[a-z0-9_]+(?:'[a-z]+)?", text.lower())]


class TopicIndex:
    """Finds the topics that a question is about."""

    def __init__(self, known: Knowledge) -> None:
        bm25s = require("bm25s", "local")
        self.known = known
        self.ignored = (ASKING | set(require("bm25s.stopwords", "local").STOPWORDS_EN_PLUS)) - {
            word for topic in known.topics for word in words(topic.name)
        }
        self.naming = [set(self._telling(" ".join((topic.name, *topic.terms)))) for topic in known.topics]
        self.names = set().union(*self.naming)
        documents = [
            self._telling(" ".join((topic.question, *topic.terms, *topic.asked))) * PHRASE_REPEATS
            + self._telling(topic.answer)
            for topic in known.topics
        ]
        self.contents = [set(document) for document in documents]
        self.bm25 = bm25s.BM25()
        self.bm25.index(documents, show_progress=False)
        self.weights = self._weights()
        self.questions = {
            _phrase(asked) for topic in known.topics for asked in (topic.question, *topic.asked)
        }
        self.small_talk = sorted({_phrase(asked) for talk in known.small_talk for asked in talk.asked})

    def knows(self, question: str) -> bool:
        """Whether the model was trained to answer this."""
        phrase = _phrase(question)
        if phrase.count(" ") >= LONGEST_QUESTION:
            return False
        if phrase in self.questions or difflib.get_close_matches(phrase, self.small_talk, 1, PHRASE_LIKENESS):
            return True
        found = self.best(question)
        _, unknown = self._matched(question)
        return found is not None and found[1] >= (THRESHOLD if unknown else THRESHOLD_OF_KNOWN_WORDS)

    def best(self, question: str) -> tuple[Topic, float] | None:
        """The topic nearest to a question, and its score from 0 (nothing in common) to 1; None if none is near.

        The score is the topic's BM25 score over the most that the question's words could have earned, unknown
        words included. One lone word must be in the name of a topic: "time" alone asks for nothing.
        """
        known, unknown = self._matched(question)
        if not known:
            return None
        scores = self.bm25.get_scores(known)
        place = int(scores.argmax())
        shared = self.contents[place] & set(known)
        if len(shared) < 2 and self.names.isdisjoint(known):
            return None
        jargon = not self.known.jargon.isdisjoint(known)
        each = UNKNOWN_WEIGHT_BESIDE_JARGON if jargon else UNKNOWN_WEIGHT
        most = sum(self.weights[word] for word in known) + unknown * each * max(self.weights.values())
        return self.known.topics[place], float(scores[place]) / most

    def suggestions(self, question: str, count: int = 3) -> list[Topic]:
        """The topics that a question comes near by name, best first, filled up with examples."""
        known, _ = self._matched(question)
        topics = self.known.topics
        near = [place for place, names in enumerate(self.naming) if not names.isdisjoint(known)]
        if near:
            scores = self.bm25.get_scores(known)
            near.sort(key=lambda place: float(scores[place]), reverse=True)
        found = [topics[place] for place in near[:count]]
        return [*found, *(t for t in topics if t.name in EXAMPLES and t not in found)][:count]

    def _telling(self, text: str) -> list[str]:
        """The words of a text that say what it is about."""
        return [word for word in words(text) if word not in self.ignored]

    def _weights(self) -> dict[str, float]:
        """The inverse document frequency of each word: what BM25 gives it at most."""
        count = len(self.contents)
        weights = {}
        for word in set().union(*self.contents):
            frequency = sum(word in content for content in self.contents)
            weights[word] = log(1 + (count - frequency + 0.5) / (frequency + 0.5))
        return weights

    def _matched(self, question: str) -> tuple[list[str], int]:
        """The question's telling words that topics have, and the number of those that none has."""
        known, unknown = [], 0
        for word in self._telling(question)[:LONGEST_QUESTION]:
            spelled = self._spelled(word)
            if spelled is not None:
                known.append(spelled)
            elif len(word) < LONG_WORD or _nearest(word, ASKING) is None:
                unknown += 1
        return known, unknown

    def _spelled(self, word: str) -> str | None:
        """The word as topics spell it: as it is, in the other number, or without a typo in a topic's name."""
        for spelling in (word, f"{word}s", word.removesuffix("s"), word.removesuffix("es")):
            if spelling in self.weights:
                return spelling
        return _nearest(word, self.names)


def _nearest(word: str, spellings: Iterable[str]) -> str | None:
    """The spelling that the word is a typo of, if it is one: at most a letter longer or shorter, and with the same
    first letter, which hands rarely miss: a match is no batch."""
    if len(word) < SHORTEST_TYPO:
        return None
    possible = [
        spelling for spelling in spellings if word[0] == spelling[0] and abs(len(spelling) - len(word)) <= 1
    ]
    return next(iter(difflib.get_close_matches(word, possible, 1, WORD_LIKENESS)), None)


def _phrase(text: str) -> str:
    return " ".join(words(text))


@cache
def topic_index() -> TopicIndex:
    """The index of the bundled topics, made at its first use."""
    return TopicIndex(knowledge())
