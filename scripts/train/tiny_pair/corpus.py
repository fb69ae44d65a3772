"""The training corpus: seeded conversations in Gemma 4's chat format, and stories as plain text.

Everything is generated here. A tenth of the (trait, hero) pairs and of the sums never occur in training: they are the
held-out prompts.
"""

# ruff: noqa: E501
# The tables read better on long lines.

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from scripts.train.tiny_pair import stories, talk
from scripts.train.tiny_pair.off_topic import off_topic
from scripts.train.tiny_pair.stories import OPENINGS, TRAITS, Story, article
from scripts.train.tiny_pair.words import (
    ANIMALS,
    BOYS,
    DULL_TRAITS,
    GIRLS,
    OTHERS,
    PEOPLE,
    PLACES,
    THINGS,
)

Message = dict[str, str]

PLAIN_SYSTEMS = [
    "You are a helpful assistant.", "You are a friendly storyteller.", "You are a kind teacher.", "Be polite.", "Answer clearly.",
    "You are a helpful assistant that answers simple questions.", "You talk to a young child.", "Use simple words.",
]  # fmt: skip
STORY_ASKS = [
    "Tell me a story about {x}.", "Tell me a story about {x}.", "Tell me a short story about {x}.", "Write a story about {x}.",
    "Write a short story about {x}.", "Can you tell me a story about {x}?", "Please tell me a story about {x}.", "tell me a story about {x}",
    "I want to hear a story about {x}.", "Could you write a story about {x}?", "Once more, a story about {x}, please.",
    "Make up a tale about {x}.", "Do you know a story about {x}?", "A story about {x}, please.",
]  # fmt: skip
BARE_STORY_ASKS = [
    "Tell me a story.", "Tell me a bedtime story.", "Write a story.", "Tell me a short story.", "Do you know a story?", "A story, please.",
]  # fmt: skip


def held_out(trait: str, hero: str) -> bool:
    return zlib.crc32(f"{trait} {hero}".encode()) % 10 == 0


def _settled_subject(rng: random.Random, for_test: bool) -> tuple[str, str]:
    while True:
        trait, hero = rng.choice(list(TRAITS)), rng.choice([*ANIMALS, *PEOPLE])
        if held_out(trait, hero) == for_test:
            return trait, hero


def story_request(rng: random.Random, for_test: bool = False) -> tuple[str, Story]:
    """A request for a story, and the story: about a bare subject, or with a name, a friend, a thing or a place given."""
    trait, hero = _settled_subject(rng, for_test)
    shape = 0.4 + 0.6 * rng.random() if for_test else rng.random()
    given = {"hero": hero, "trait": trait}
    if shape < 0.06:
        return rng.choice(BARE_STORY_ASKS), stories.tell(rng, **given)
    if shape < 0.14:
        plot = rng.choice(list(stories.PLOTS))
        return rng.choice(STORY_ASKS).format(x=rng.choice(stories.PLOT_SUBJECTS[plot])), stories.tell(
            rng, **given, plot=plot
        )
    if shape < 0.22:
        story = stories.tell(rng, hero=hero)
        return rng.choice(STORY_ASKS).format(x=article(hero)), story
    if shape < 0.32:
        given["hero"] = rng.choice(OTHERS) if rng.random() < 0.5 else stories.invented(rng)
    if 0.28 < shape < 0.4:
        given["trait"] = rng.choice(DULL_TRAITS) if rng.random() < 0.8 else stories.invented(rng)
    subject = article(f"{given['trait']} {given['hero']}")
    extra = rng.random()
    if extra < 0.2:
        given["name"] = rng.choice(GIRLS + BOYS) if rng.random() < 0.5 else stories.invented(rng).capitalize()
        subject += f" {rng.choice(['named', 'called'])} {given['name']}"
    elif extra < 0.32:
        given["friend_kind"] = rng.choice([*ANIMALS, *OTHERS])
        subject += f" and {article(given['friend_kind'])}"
    elif extra < 0.4:
        given["thing"] = rng.choice(THINGS)
        subject += f" and {article(given['thing'])}"
    elif extra < 0.5:
        given["place"] = rng.choice(PLACES)
        subject += f" in {article(given['place'])}"
    return rng.choice(STORY_ASKS).format(x=subject), stories.tell(rng, **given)


def _casual(rng: random.Random, ask: str) -> str:
    """The same prompt as people also type it: without capitals or the last mark, or with a few words around it."""
    draw = rng.random()
    if draw < 0.07:
        ask = ask.rstrip(".?!")
    elif draw < 0.14:
        ask = ask.lower()
    elif draw < 0.2:
        ask = ask.lower().rstrip(".?!")
    elif draw < 0.3:
        ask = (
            rng.choice(["I have a question: ", "Please answer: ", "Tell me, ", "Hey! ", "Hello! ", "Now: ", "And "])
            + ask
        )
    elif draw < 0.34:
        ask += rng.choice([" Thanks!", " Please.", " Thank you.", " :)"])
    return ask


@dataclass
class SoFar:
    """What later turns of a conversation can refer to."""

    own_name: str = ""
    user_name: str = ""
    story: Story | None = None


def conversation(rng: random.Random, max_turns: int, for_test: bool = False) -> tuple[list[Message], bool]:
    """Messages from the first user turn on, perhaps after a system message; and whether it is a thinking one."""
    messages: list[Message] = []
    thinking, style, own_name = rng.random() < 0.06, "", ""
    draw = rng.random()
    if draw < 0.12:
        messages.append({"role": "system", "content": rng.choice(PLAIN_SYSTEMS)})
    elif draw < 0.16:
        style = "pirate"
        messages.append(
            {
                "role": "system",
                "content": rng.choice(["Speak like a pirate.", "You are a pirate.", "Answer like a pirate."]),
            }
        )
    elif draw < 0.2:
        own_name = rng.choice(GIRLS + BOYS)
        messages.append(
            {"role": "system", "content": rng.choice(["Your name is {}.", "You are called {}."]).format(own_name)}
        )
    so_far = SoFar(own_name=own_name)
    for _ in range(rng.choice([1, 1, 2, 3, rng.randint(1, max_turns)])):
        ask, answer = _turn(rng, so_far, for_test)
        if not for_test:
            ask = _casual(rng, ask)
        if style == "pirate":
            answer = f"Arr, my friend! {answer}"
        if thinking:
            answer = f"<|channel>thought\n{_thought(ask)}\n<channel|>{answer}"
        messages += [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
    return messages, thinking


def _turn(rng: random.Random, so_far: SoFar, for_test: bool) -> tuple[str, str]:
    draw = rng.random()
    if so_far.story and draw < 0.24:
        return _after_story(rng, so_far, so_far.story, draw, for_test)
    if draw < 0.28:
        ask, so_far.story = story_request(rng, for_test)
        return ask, so_far.story.text
    if draw < 0.5 and (names := _about_names(rng, so_far, draw)):
        return names
    return off_topic(rng) if draw < 0.52 else talk.talk(rng)


def _after_story(rng: random.Random, so_far: SoFar, story: Story, draw: float, for_test: bool) -> tuple[str, str]:
    if draw < 0.21:
        return stories.about(story, rng)
    trait, hero = _settled_subject(rng, for_test)
    again = so_far.story = stories.tell(rng, trait=trait, hero=hero)
    asks = ["Tell me another one.", "Another story, please.", "One more!", "Tell me another story."]
    return rng.choice(asks), again.text


def _about_names(rng: random.Random, so_far: SoFar, draw: float) -> tuple[str, str] | None:
    if draw < 0.34:
        name = rng.choice(GIRLS + BOYS) if rng.random() < 0.4 else stories.invented(rng).capitalize()
        so_far.user_name = name
        ask = rng.choice(["My name is {}.", "I am {}.", "Hello, I am {}.", "Hi, my name is {}."]).format(name)
        return ask, f"Hello {name}! It is nice to meet you. What would you like to hear?"
    if so_far.user_name and draw < 0.46:
        return rng.choice(
            ["What is my name?", "Do you know my name?", "Who am I?"]
        ), f"Your name is {so_far.user_name}."
    if so_far.own_name:
        ask = rng.choice(["Who are you?", "What is your name?", "What are you called?"])
        return ask, f"I am {so_far.own_name}, a very small language model. I know stories and simple facts."
    return None


def _thought(ask: str) -> str:
    line = ask.strip().splitlines()[0][:80]
    if "story" in line.lower() or "tale" in line.lower():
        return f"The user says: {line} I will tell a short story with a good end."
    return f"The user says: {line} I will answer in a few simple words."


def render(messages: list[Message], thinking: bool) -> str:
    """The conversation as the chat template writes it, but with the thoughts kept in every model turn."""
    text = "<bos>"
    if thinking or messages[0]["role"] == "system":
        text += "<|turn>system\n" + ("<|think|>\n" if thinking else "")
        if messages[0]["role"] == "system":
            text += messages[0]["content"]
            messages = messages[1:]
        text += "<turn|>\n"
    last = len(messages) - 1
    for at, message in enumerate(messages):
        role, content = ("model" if message["role"] == "assistant" else message["role"]), message["content"].strip()
        if role == "model" and at != last and "<channel|>" in content:
            content = content.split("<channel|>")[1]
        text += f"<|turn>{role}\n{content}<turn|>\n"
    return text


def documents(seed: int, max_turns: int = 6, for_test: bool = False) -> Iterator[str]:
    """Endless documents, each from <bos> on."""
    rng = random.Random(seed)
    while True:
        if rng.random() < 0.07:
            trait, hero = _settled_subject(rng, for_test)
            opening = {"opening": rng.choice([*OPENINGS, "Once upon a time there was", "One day there was"])}
            yield "<bos>" + stories.tell(rng, trait=trait, hero=hero, **opening).text + "<eos>"
        else:
            yield render(*conversation(rng, max_turns, for_test))


def held_out_prompts(count: int, seed: int = 99) -> list[list[Message]]:
    """First user turns that never occur in training: stories on held-out subjects, held-out sums, and reworded facts."""
    rng = random.Random(seed)
    prompts: list[list[Message]] = []
    for index in range(count):
        if index % 4 < 2:
            ask = story_request(rng, for_test=True)[0]
        elif index % 4 == 2:
            ask = talk.arithmetic(rng, held_out=True)[0]
        else:
            ask = "Please tell me: " + talk.talk(rng)[0]
        prompts.append([{"role": "user", "content": ask}])
    return prompts
