"""Short stories from a grammar: hero, trait, place, friend and plot in, one story and what can be asked about it out.

Choices that matter for the plot follow from the hero and the trait, not from chance: a small model can learn them, and
its distribution stays sharp.
"""

# ruff: noqa: E501
# The tables read better on long lines.

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.train.tiny_pair.words import ANIMALS, BOYS, GIRLS, PEOPLE, WEATHER

# trait: (what others knew of the hero, the moral)
TRAITS: dict[str, tuple[str, str]] = {
    "brave": ("was never too afraid to help", "being brave means helping a friend even when you are afraid"),
    "kind": ("had a good word for everyone", "a kind heart always finds a friend"),
    "lazy": ("liked to sleep until noon", "a little work today saves a lot of trouble tomorrow"),
    "curious": ("asked a hundred questions every day", "a good question can open any door"),
    "shy": ("hid whenever a stranger came by", "the first step is the hardest one"),
    "clever": ("always had a good idea", "a clear head is better than strong arms"),
    "lonely": ("often sat alone and looked at the moon", "a friend can be closer than you think"),
    "greedy": ("wanted to keep everything", "things are nicer when you share them"),
    "honest": ("always told the truth", "the truth is the shortest way home"),
    "hungry": ("thought about food all day long", "a meal tastes best with friends"),
    "sleepy": ("yawned at every sunset", "a good rest makes the next day bright"),
    "proud": ("liked to talk about great deeds", "even the strongest need help sometimes"),
    "gentle": ("never said a loud word", "a soft voice can calm a storm"),
    "tiny": ("was smaller than all the others", "even the smallest can do great things"),
    "grumpy": ("complained about the weather", "a smile makes every day warmer"),
    "patient": ("could wait for a very long time", "good things come to those who wait"),
    "forgetful": ("lost something every day", "friends remember what we forget"),
    "cheerful": ("sang a song every morning", "joy grows when it is shared"),
}
# Plots: sentences over the slots of `_slots`, what happened in one clause, and the feeling of the hero at the end.
PLOTS: dict[str, tuple[str, str, str]] = {
    "lost": (
        "One {weather} day {friend} did not come home. {name} was worried and went out to look. \"{friend}, where are you?\" "
        "{he} called again and again. At last {he} heard a small voice behind a rock. It was {friend}, cold and tired. {name} "
        "gave {friend} {his} {thing} and they walked home together.",
        "{name} found {friend}, who was lost, and brought {friend} home", "proud"),
    "storm": (
        "One {weather} evening a storm came up. The wind blew so hard that the roof of {friend}'s house flew away. \"Come and "
        "stay with me,\" said {name}. All night they sat by the fire and told each other stories. In the morning the sun came "
        "out, and they mended the roof with an old {thing}.",
        "{name} gave {friend} a safe place in the storm and mended the roof", "happy"),
    "treasure": (
        "One {weather} morning {name} found an old {thing} in the grass. There was a note on it that said, \"Look under the big "
        "tree.\" {name} and {friend} began to dig. They dug until the moon came up. At last they found a box full of golden "
        "coins. They gave a coin to everyone they knew.",
        "{name} and {friend} found a box of golden coins and shared it", "happy"),
    "cake": (
        "One {weather} day {name} wanted to bake a cake for {friend}. But there was no flour in the kitchen. {name} asked all the "
        "neighbours, and each one gave a little. The cake was so big that they carried it on {a_thing}. When {friend} saw it, "
        "{friend} laughed with joy.",
        "{name} baked a big cake for {friend} with the help of the neighbours", "glad"),
    "river": (
        "One {weather} day {name} and {friend} came to a wide river. The bridge was broken, and {friend} could not swim. {name} "
        "thought for a while. Then {he} took {a_thing} and some rope and made a raft. Slowly they floated to the other side. "
        "\"We did it!\" cried {friend}.",
        "{name} made a raft and crossed the river with {friend}", "proud"),
    "star": (
        "One {weather} night a little star fell from the sky. It lay in the grass and cried. \"I want to go home,\" it said. {name} "
        "put the star into {a_thing} and climbed the highest hill. {friend} came along to help. Together they threw the star up, "
        "and it shone brighter than before.",
        "{name} and {friend} helped a little star to get back to the sky", "happy"),
    "toy": (
        "One {weather} day {name} broke {friend}'s best {thing}. {name} felt very sorry. First {he} wanted to hide it under the "
        "bed. But then {he} went to {friend} and told what had happened. {friend} was sad for a moment. Then they mended it "
        "together, and it looked as good as new.",
        "{name} broke the {thing} of {friend}, said sorry, and mended it", "relieved"),
    "winter": (
        "That winter was long and {weather}. The snow was deep, and there was hardly any food. {name} had one last basket of nuts. "
        "Then {friend} knocked at the door, hungry and cold. {name} put the nuts on {a_thing} and cut every one in two. They ate "
        "slowly and waited for the spring.",
        "{name} shared the last food of the winter with {friend}", "glad"),
    "garden": (
        "One {weather} day {name} planted a seed in an old {thing}. Every morning {he} gave it water. \"Nothing will grow there,\" "
        "said {friend}. But {name} did not give up. After many days a green leaf came out of the earth. In summer it was a flower, "
        "as tall as a tree.",
        "{name} planted a seed and cared for it until it was a tall flower", "proud"),
    "race": (
        "One {weather} day there was a big race. {name} ran as fast as {he} could and was far in front. Then {he} saw that {friend} "
        "had fallen over {a_thing}. {name} stopped and turned back. Hand in hand they crossed the line, last of all. Everyone "
        "clapped for them.",
        "{name} stopped in the race to help {friend}", "happy"),
    "song": (
        "One {weather} evening {name} heard a sweet song from far away. {He} took {a_thing} and followed the sound over the hills. "
        "It was {friend}, who sang to the stars. \"Will you teach me?\" asked {name}. They sang until the sun came up, and all the "
        "birds joined in.",
        "{name} learned a song from {friend}", "happy"),
    "dark": (
        "One {weather} night the lamp went out. {friend} was afraid of the dark and began to cry. \"Do not worry,\" said {name}. {He} "
        "opened the window and let the moonlight in. Then {he} made funny shadows on the wall with {a_thing}. Soon {friend} laughed "
        "and fell asleep.",
        "{name} helped {friend}, who was afraid of the dark", "glad"),
}  # fmt: skip
# What fits into a plot, so that nobody carries a cake on a map.
PLOT_THINGS: dict[str, list[str]] = {
    "lost": ["blanket", "hat", "umbrella", "lantern"], "storm": ["blanket", "umbrella", "ladder", "boat"],
    "treasure": ["map", "book", "bell", "clock", "key", "coin", "ring"], "cake": ["wagon", "ladder", "drum"],
    "river": ["basket", "drum", "wagon", "ladder"], "star": ["hat", "basket", "lantern", "cup"],
    "toy": ["kite", "flute", "clock", "mirror", "drum", "cup", "shell"], "winter": ["drum", "book", "blanket"],
    "garden": ["hat", "cup", "basket", "drum", "bell"], "race": ["ball", "basket", "wagon", "apple"],
    "song": ["lantern", "flute", "hat", "umbrella"], "dark": ["hat", "feather", "key", "ball", "ring"],
}  # fmt: skip
# Requests that name a plot and not a hero.
PLOT_SUBJECTS: dict[str, list[str]] = {
    "lost": ["a lost friend", "getting lost"], "storm": ["a storm", "the wind", "the rain"],
    "treasure": ["a treasure", "gold", "an adventure"], "cake": ["a cake", "a birthday", "food"],
    "river": ["a river", "a bridge", "a journey"], "star": ["a star", "the sky", "space"],
    "toy": ["a broken toy", "saying sorry"], "winter": ["winter", "the snow", "sharing"],
    "garden": ["a garden", "a flower", "spring"], "race": ["a race", "friendship", "two friends"],
    "song": ["a song", "music", "singing"], "dark": ["the night", "the moon", "being afraid of the dark"],
}  # fmt: skip
FRIEND_KINDS = ["mouse", "owl", "frog", "duck", "squirrel", "hedgehog", "rabbit", "goat"]
OPENINGS = ["Once upon a time there was", "Once there was", "Long ago there was", "There once was"]


@dataclass(frozen=True)
class Story:
    text: str
    hero: str
    kind: str
    name: str
    friend: str
    friend_kind: str
    home: str
    gist: str
    moral: str
    feeling: str
    knew: str


def settled(options: Sequence[str], *key: str) -> str:
    """One of ``options``, the same for the same key in every run."""
    return options[zlib.crc32("/".join(key).encode()) % len(options)]


def invented(rng: random.Random) -> str:
    """A word nobody has heard, so that copying from the prompt is learned and not only recall."""
    syllables = [
        rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") + rng.choice(["", "", "n", "r", "l", "x"])
        for _ in range(rng.randint(1, 3))
    ]
    return "".join(syllables)


def article(noun: str) -> str:
    vowel = noun[0] in "aeiou" and not noun.startswith("uni")
    return f"an {noun}" if vowel or noun.startswith("honest") else f"a {noun}"


def home_of(hero: str) -> str:
    if hero in PEOPLE:
        return PEOPLE[hero]
    return ANIMALS[hero][0] if hero in ANIMALS else "in a land far away"


def choose_plot(rng: random.Random, trait: str, thing: str | None) -> str:
    fitting = [plot for plot, things in PLOT_THINGS.items() if thing is None or thing in things]
    return settled(fitting or ["toy"], trait, rng.choice("ab"))


def tell(rng: random.Random, **given: str) -> Story:
    """A story about the given hero, trait, name, friend, thing, place or plot; what is not given is chosen."""
    hero = given.get("hero") or rng.choice([*ANIMALS, *PEOPLE])
    trait = given.get("trait") or settled(list(TRAITS), hero, rng.choice("ab"))
    girl = hero in {"girl", "queen", "princess", "hen", "cow"}
    girl = girl or (hero not in {"boy", "king", "wizard"} and rng.random() < 0.5)
    name = given.get("name") or settled(GIRLS if girl else BOYS, hero, rng.choice("ab"))
    girl = name in GIRLS or (girl and name not in BOYS)
    friend_kind = given.get("friend_kind") or settled(FRIEND_KINDS, hero)
    friend = settled([n for n in (GIRLS if len(name) % 2 else BOYS) if n != name], name)
    home = f"in {article(given['place'])}" if "place" in given else home_of(hero)
    plot = given.get("plot") or choose_plot(rng, trait, given.get("thing"))
    thing = given.get("thing") or settled(PLOT_THINGS[plot], plot, hero)
    knew, moral = TRAITS.get(trait) or TRAITS[settled(list(TRAITS), trait)]
    he, his = ("she", "her") if girl else ("he", "his")
    slots = {
        "name": name, "friend": friend, "thing": thing, "a_thing": article(thing), "he": he, "He": he.capitalize(), "his": his,
        "weather": settled(WEATHER, hero, plot),
    }  # fmt: skip
    body, gist, feeling = PLOTS[plot]
    start = (
        f"{given.get('opening') or settled(OPENINGS, hero)} {article(trait)} {hero} named {name}. {name} lived {home} with "
        f"{article(friend_kind)} named {friend}. Everyone knew that {name} {knew}."
    )
    text = f"{start} {body.format(**slots)} From that day on {name} knew that {moral}."
    return Story(
        text, f"{trait} {hero}", hero, name, friend, friend_kind, home, gist.format(**slots), moral, feeling, knew
    )


def about(story: Story, rng: random.Random) -> tuple[str, str]:
    """A question that can be asked after a story, and its answer."""
    s = story
    pairs = [
        (["What was the name of the {k}?", "What was the {k} called?", "Who was the hero?"],
         f"The {s.kind} in the story was named {s.name}."),
        (["Where did {n} live?", "Where did the {k} live?"], f"{s.name} lived {s.home} with {s.friend}."),
        (["Who was {f}?", "Who was the friend of {n}?", "Who was {n}'s friend?"],
         f"{s.friend} was {article(s.friend_kind)}, and the best friend of {s.name}."),
        (["What happened in the story?", "Can you make it shorter?", "Tell it in one sentence.", "Sum it up, please."],
         f"In short, {s.gist}."),
        (["What did {n} learn?", "What is the moral of the story?", "What does the story teach us?"],
         f"{s.name} learned that {s.moral}."),
        (["How did {n} feel at the end?", "Was {n} happy at the end?"],
         f"At the end {s.name} felt {s.feeling}, because {s.gist}."),
        (["What was {n} like?", "How would you describe {n}?"],
         f"{s.name} was {article(s.hero)}. Everyone knew that {s.name} {s.knew}."),
    ]  # fmt: skip
    questions, answer = rng.choice(pairs)
    return rng.choice(questions).format(k=s.kind, n=s.name, f=s.friend), answer
