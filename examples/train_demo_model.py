"""Trains the bundled demo model from modules/demo/topics.json and writes its weights beside that file.

    python examples/train_demo_model.py            # about three minutes on one core

The model is a Llama of about 0.7 million parameters that learns the answers by heart. It sees each question
in many wordings (templates, case, punctuation, typos), alone and as a turn of a longer conversation, with
and without a system message. At the end every trained wording is checked; unless the saved weights answer
the plain question of every topic exactly, the script ends with an error.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as FastTokenizer

from millrace.modules.demo import weights_path
from millrace.modules.demo.topics import Topic, knowledge

SEED = 7
VOCABULARY = 1024
CONTEXT = 1024
TOKENS_PER_BATCH = 1000
TURN_TOKENS = 45
"""About what a question and its answer take."""
OPENING = 8
TURNS = [1, 1, 1, 1, 1, 2, 2, 3, 4, 6, 9]
"""How long the conversations are; all of a batch have the same length."""
LEARNING_RATE = 4e-3
SPECIAL = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
# The space makes the first word of a question the same token as that word inside a sentence.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message['role'] }}|>{{ '' if message['role'] == 'assistant' else ' ' }}"
    "{{ message['content'] | trim }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEMPLATES = [
    "What is {}?",
    "What are {}?",
    "What's {}?",
    "What does {} do?",
    "What does {} mean?",
    "What is meant by {}?",
    "What exactly is {}?",
    "What is {} for?",
    "What is {} good for?",
    "What is the point of {}?",
    "What is {} in millrace?",
    "What do you know about {}?",
    "How does {} work?",
    "How do I use {}?",
    "How can I use {}?",
    "When do I use {}?",
    "Why do I need {}?",
    "Where do I find {}?",
    "Explain {}.",
    "Explain {} to me.",
    "Please explain {}.",
    "Can you explain {}?",
    "Could you tell me what {} is?",
    "Tell me about {}.",
    "Tell me more about {}.",
    "Describe {}.",
    "Define {}.",
    "The definition of {}",
    "The meaning of {}",
    "I want to know about {}.",
    "I do not understand {}.",
    "Help me with {}.",
    "And {}?",
    "And what is {}?",
    "{}?",
    "{}",
]
SYSTEM_MESSAGES = [
    "You are a helpful assistant.",
    "Be brief.",
    "You are the demo of millrace.",
    "Answer in English.",
    "Answer from the notes.",
]
SMALL_WORDS = frozenset({"a", "an", "the", "do", "does", "is", "are", "to", "of", "I", "i"})
# Only for turns before the one that is learned: the flow around the model declines such questions.
OFF_TOPIC_STARTS = ["What is the", "Who is the", "Tell me about the", "How do I", "Write a", "Can you", ""]
OFF_TOPIC_WORDS = """
population song poem capital france weather football match who won how old moon film recommend president
cook recipe cake translate german french joke price car buy history war king math times sum email letter
doctor city river planet animal dog cat music band phone game spain write sing tomorrow friend money love
""".split()  # noqa: SIM905


@dataclass(frozen=True)
class Turn:
    """A question and its answer; a turn that is not learned only stands before others."""

    question: str
    answer: str
    learned: bool = True


Conversation = tuple[str | None, list[Turn]]
"""A system message, or None, and turns."""


class Corpus:
    """Draws conversations from what the demo knows."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.known = knowledge()
        self.weights = [len(TEMPLATES) + 2 * len(topic.asked) for topic in self.known.topics]

    def wordings(self, topic: Topic) -> list[str]:
        """Every trained way to ask for a topic, before noise."""
        phrased = [template.format(term) for template in TEMPLATES for term in topic.terms]
        return [topic.question, *topic.asked, *phrased]

    def pairs(self) -> list[Turn]:
        """Every trained wording with its answer, without noise."""
        turns = [Turn(text, topic.answer) for topic in self.known.topics for text in self.wordings(topic)]
        turns += [Turn(text, talk.answer) for talk in self.known.small_talk for text in talk.asked]
        return turns

    def conversation(self, length: int) -> Conversation:
        """A system message, or None, and `length` turns of which the last one is always learned."""
        system = self.chance.choice(SYSTEM_MESSAGES) if self.chance.random() < 0.2 else None
        off_topic = [self.chance.random() < 0.15 for _ in range(length - 1)]
        return system, [self.off_topic_turn() if off else self.learned_turn() for off in [*off_topic, False]]

    def learned_turn(self) -> Turn:
        kind = self.chance.random()
        if kind < 0.06:
            talk = self.chance.choice(self.known.small_talk)
            return Turn(self.noisy(self.chance.choice(talk.asked)), talk.answer)
        [topic] = self.chance.choices(self.known.topics, self.weights)
        if kind < 0.15:
            question = topic.question
        elif kind < 0.55:
            question = self.chance.choice(topic.asked)
        else:
            question = self.chance.choice(TEMPLATES).format(self.chance.choice(topic.terms))
        return Turn(self.noisy(question), topic.answer)

    def off_topic_turn(self) -> Turn:
        words = self.chance.sample(OFF_TOPIC_WORDS, self.chance.randint(1, 4))
        question = f"{self.chance.choice(OFF_TOPIC_STARTS)} {' '.join(words)}?".strip()
        suggestions = self.chance.sample(self.known.topics, 3)
        return Turn(question, self.known.declining(suggestions), learned=False)

    def noisy(self, text: str) -> str:
        """Lower case, a missing mark at the end, a lost small word or a typo, each with its own chance."""
        if self.chance.random() < 0.35:
            text = text.lower()
        if self.chance.random() < 0.3:
            text = text.rstrip("?.!")
        words = text.split(" ")
        small = [place for place, word in enumerate(words) if word in SMALL_WORDS]
        if small and self.chance.random() < 0.1:
            del words[self.chance.choice(small)]
        long = [place for place, word in enumerate(words) if len(word) >= 5]
        if long and self.chance.random() < 0.15:
            place = self.chance.choice(long)
            words[place] = self.typo(words[place])
        return " ".join(words)

    def typo(self, word: str) -> str:
        """One letter lost, swapped with the next, doubled or replaced."""
        i = self.chance.randrange(1, len(word) - 1)
        return self.chance.choice(
            [
                word[:i] + word[i + 1 :],
                word[:i] + word[i + 1] + word[i] + word[i + 2 :],
                word[:i] + word[i] + word[i:],
                word[:i] + self.chance.choice("abcdefghijklmnopqrstuvwxyz") + word[i + 1 :],
            ]
        )


def train_tokenizer(texts: Iterator[str]) -> FastTokenizer:
    """A byte-level BPE of 1024 entries with the chat template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = FastTokenizer(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=CONTEXT
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(tokenizer: FastTokenizer) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=336,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


class Encoder:
    """Turns conversations into padded batches of token ids and labels."""

    def __init__(self, tokenizer: FastTokenizer) -> None:
        self.tokenizer = tokenizer
        self.end: int = tokenizer.eos_token_id

    def prompt(self, question: str) -> list[int]:
        messages = [{"role": "user", "content": question}]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)

    def row(
        self, system: str | None, turns: Sequence[Turn], opening: int | None = None
    ) -> tuple[list[int], list[int]]:
        """Token ids and labels of a conversation; only learned answers carry a label.

        `opening` cuts the last answer after so many tokens.
        """
        ids: list[int] = []
        labels: list[int] = []
        for number, turn in enumerate(turns):
            messages = [{"role": "system", "content": system}] if number == 0 and system else []
            messages.append({"role": "user", "content": turn.question})
            before = self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )
            before = before if number == 0 else before[1:]
            answer = [*self.tokenizer.encode(turn.answer, add_special_tokens=False), self.end]
            if number == len(turns) - 1:
                answer = answer[:opening]
            ids += before + answer
            labels += [-100] * len(before) + (answer if turn.learned else [-100] * len(answer))
        return ids, labels

    def batch(self, rows: Sequence[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
        """Padded on the right, each tensor of shape (rows, longest row)."""
        width = max(len(ids) for ids, _ in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        labels = torch.full((len(rows), width), -100)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for place, (row_ids, row_labels) in enumerate(rows):
            ids[place, : len(row_ids)] = torch.tensor(row_ids)
            labels[place, : len(row_ids)] = torch.tensor(row_labels)
            mask[place, : len(row_ids)] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def train(model: LlamaForCausalLM, encoder: Encoder, corpus: Corpus, steps: int) -> None:
    """AdamW, a short warm-up, a linear decay; a fixed number of steps, so that a run can be repeated."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    started = time.perf_counter()
    model.train()
    for step in range(1, steps + 1):
        length = corpus.chance.choice(TURNS)
        # Which answer it is shows in its first words, and the rest is learned sooner: half of the batches leave
        # the rest out, for more questions in the same time.
        opening = corpus.chance.choice([None, OPENING])
        tokens = TURN_TOKENS * (length - 1) + (TURN_TOKENS if opening is None else TURN_TOKENS // 2)
        conversations = [corpus.conversation(length) for _ in range(max(2, TOKENS_PER_BATCH // tokens))]
        batch = encoder.batch([encoder.row(system, turns, opening) for system, turns in conversations])
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, step / 60) * max(0.02, 1 - step / steps)
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps:
            seconds = time.perf_counter() - started
            print(f"step {step:5d} of {steps}   loss {loss.item():.4f}   {seconds:5.0f} s", flush=True)


def save(model: LlamaForCausalLM, tokenizer: FastTokenizer, directory: Path) -> None:
    """float16 safetensors, tokenizer, chat template, and greedy decoding as the default."""
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model.generation_config = GenerationConfig(do_sample=False, **ends)
    model.half().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    for file in directory.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors makes files that only their owner may read


@torch.inference_mode()
def exact(model: LlamaForCausalLM, encoder: Encoder, conversations: Sequence[Conversation]) -> list[bool]:
    """Whether greedy decoding gives all answers: it does if every token of them is the likeliest one."""
    hits: list[bool] = []
    for start in range(0, len(conversations), 64):
        part = conversations[start : start + 64]
        batch = encoder.batch([encoder.row(system, turns) for system, turns in part])
        labels = batch.pop("labels")[:, 1:]
        predicted = model(**batch).logits[:, :-1].argmax(-1)
        hits += ((predicted == labels) | (labels == -100)).all(-1).tolist()
    return hits


@torch.inference_mode()
def generated(model: LlamaForCausalLM, encoder: Encoder, question: str) -> str:
    prompt = torch.tensor([encoder.prompt(question)])
    output = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=100)
    return encoder.tokenizer.decode(output[0, prompt.shape[1] :], skip_special_tokens=True)


def check(directory: Path, corpus: Corpus) -> bool:
    """Loads what was saved, prints the shares of exact answers; True if all plain questions have theirs."""
    encoder = Encoder(AutoTokenizer.from_pretrained(directory))
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    checks: dict[str, list[Conversation]] = {
        "trained wordings": [(None, [turn]) for turn in corpus.pairs()],
        "noisy wordings": [(None, [corpus.learned_turn()]) for _ in range(2000)],
        "conversations of four turns": [corpus.conversation(4) for _ in range(400)],
    }
    for name, conversations in checks.items():
        hits = exact(model, encoder, conversations)
        print(f"{name}: {sum(hits)} of {len(hits)} exact ({sum(hits) / len(hits):.2%})")
        missed = [turns[-1].question for (_, turns), hit in zip(conversations, hits, strict=True) if not hit]
        print(*(f"    missed: {question}" for question in missed[:10]), sep="\n")
    topics = corpus.known.topics
    wrong = [topic.question for topic in topics if generated(model, encoder, topic.question) != topic.answer]
    print(f"plain questions: {len(topics) - len(wrong)} of {len(topics)} exact", *wrong, sep="\n    ")
    return not wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1700)
    parser.add_argument("--out", type=Path, default=weights_path(), help="where the weights go")
    options = parser.parse_args()
    torch.set_num_threads(1)  # matrices this small are slower on two threads
    torch.manual_seed(SEED)
    corpus = Corpus(random.Random(SEED))
    tokenizer = train_tokenizer(f"{turn.question}\n{turn.answer}" for turn in corpus.pairs())
    model = new_model(tokenizer)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{size:,} parameters, {len(corpus.known.topics)} topics, {len(corpus.pairs())} wordings")
    train(model, Encoder(tokenizer), corpus, options.steps)
    save(model, tokenizer, options.out)
    return 0 if check(options.out, corpus) else 1


if __name__ == "__main__":
    sys.exit(main())
