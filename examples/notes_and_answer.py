"""Two searches at once, a prompt made from their notes, and a model at the end; the steps are named and drawn upon.

python examples/notes_and_answer.py "What is a Stream?"
"""

import sys

from millrace import LocalModel, Parallel, Pipeline, bind
from millrace.streaming import StepFinished

NOTES = {
    "stream": "A stream is the listener's handle on a run.",
    "session": "A session is one conversation.",
    "queue": "A queue holds what a run says.",
}


def by_word(question: str) -> list[str]:
    return [note for word, note in NOTES.items() if word in question.lower()]


def by_length(question: str) -> list[str]:
    return sorted(NOTES.values(), key=len)[:1]


def cite(answer: str, notes: dict[str, list[str]]) -> str:
    return f"{answer}\n\nNotes: {'; '.join(notes['words']) or 'none'}"


with Pipeline(name="notes") as flow:
    flow.question = str.strip
    flow.notes = Parallel(words=by_word, short=by_length)
    flow.model = bind(LocalModel.demo(), flow.question)
    flow.answer = bind(cite, notes=flow.notes, answer=flow.model)

with flow.stream(sys.argv[1] if len(sys.argv) > 1 else "What is a Stream?") as stream:
    for event in stream:
        if isinstance(event, StepFinished):
            print("finished:", "/".join(map(str, event.path)), file=sys.stderr)
    print(stream.result)
