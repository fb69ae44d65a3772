"""Questions and answers: facts, sums, lists, greetings, feelings, rewording, and prompts the model cannot answer."""

# ruff: noqa: E501
# The tables read better on long lines.

from __future__ import annotations

import random
from collections.abc import Callable

from scripts.train.tiny_pair import words as w
from scripts.train.tiny_pair.stories import article, invented, settled

Pair = tuple[str, str]


def colour(rng: random.Random) -> Pair:
    thing, (shade, more) = rng.choice(list(w.COLOURS.items()))
    ask = rng.choice(
        ["What colour is {}?", "What color is {}?", "Which colour does {} have?", "Tell me the colour of {}."]
    )
    return ask.format(thing), f"{thing.capitalize()} is {shade}. {more}"


def why(rng: random.Random) -> Pair:
    question, answer = rng.choice(list(w.WHY.items()))
    return rng.choice(
        ["Why {}?", "Can you tell me why {}?", "Do you know why {}?"][: 1 if " is " in question else 3]
    ).format(question), answer


def explain(rng: random.Random) -> Pair:
    thing, answer = rng.choice(list(w.THINGS_EXPLAINED.items()))
    ask = rng.choice(["What is {}?", "Can you explain what {} is?", "Tell me about {}.", "What do you know about {}?"])
    return ask.format(thing), answer


def animal(rng: random.Random) -> Pair:
    name, (_, food, sound, legs, where, more) = rng.choice(list(w.ANIMALS.items()))
    a = article(name)
    number = {0: "no legs", 2: "two legs", 4: "four legs", 6: "six legs", 8: "eight legs"}[legs]
    makes = f"{a.capitalize()} makes {sound}" if sound.startswith(("no ", "a ")) else f"{a.capitalize()} says {sound}"
    choices = [
        ([f"What does {a} eat?", f"What do you feed {a}?", f"Which food does {a} like?"],
         f"{a.capitalize()} eats {food}. {more}"),
        ([f"What sound does {a} make?", f"What does {a} say?", f"Which noise does {a} make?"],
         f"{makes}. You can find it {where}."),
        ([f"How many legs does {a} have?", f"Does {a} have legs?"], f"{a.capitalize()} has {number}. It lives {where}."),
        ([f"Where does {a} live?", f"Where can I find {a}?"], f"{a.capitalize()} lives {where}. It eats {food}."),
        ([f"Tell me about {a}.", f"What is {a}?", f"Tell me a fact about {a}.", f"What do you know about {a}?"],
         f"{a.capitalize()} is an animal that lives {where}. It eats {food}. {more}"),
    ]  # fmt: skip
    many = w.IRREGULAR.get(name, name + "s")
    choices[0][0].extend([f"What do {many} eat?", f"What do {many} like to eat?"])
    choices[3][0].extend([f"Where do {many} live?", f"Where can I see {many}?"])
    choices[4][0].extend([f"Tell me about {many}.", f"What are {many}?", f"Tell me something about {many}."])
    asks, answer = rng.choice(choices)
    return rng.choice(asks), answer


def held_out_sum(a: int, b: int) -> bool:
    return (a * 7 + b * 3) % 10 == 0


def arithmetic(rng: random.Random, held_out: bool = False) -> Pair:
    while True:
        a, b, sign = rng.randint(0, 10), rng.randint(0, 10), rng.choice("+++--x")
        if sign == "-":
            a = max(a, b)
        if sign == "x":
            b = b % 6
        if held_out_sum(a, b) == held_out:
            break
    word = {"+": "plus", "-": "minus", "x": "times"}[sign]
    result = {"+": a + b, "-": a - b, "x": a * b}[sign]
    ask = rng.choice(["What is {} {} {}?", "What is {} {} {}?", "How much is {} {} {}?", "Can you work out {} {} {}?"])
    shown = word if rng.random() < 0.8 else sign.replace("x", "*")
    hint = {
        "+": f"If you have {a} apples and get {b} more, you have {result} apples.",
        "-": f"If you have {a} apples and give {b} away, you have {result} left.",
        "x": f"That is {a} groups of {b}.",
    }[sign]
    return ask.format(a, shown, b), f"{a} {word} {b} is {result}. {hint}"


def order(rng: random.Random) -> Pair:
    if rng.random() < 0.4:
        n, after = rng.randint(1, 98), rng.random() < 0.5
        side, other = ("after", n + 1) if after else ("before", n - 1)
        return f"Which number comes {side} {n}?", f"The number {side} {n} is {other}."
    row, kind = rng.choice([(w.DAYS, "day"), (w.MONTHS, "month")])
    at, step = rng.randrange(len(row)), rng.choice([1, -1])
    side = "after" if step == 1 else "before"
    first = rng.choice(["Which {k} comes {s} {x}?", "What {k} is {s} {x}?"]).format(k=kind, s=side, x=row[at])
    whole = "a week" if kind == "day" else "a year"
    count = "seven days" if kind == "day" else "twelve months"
    return first, f"The {kind} {side} {row[at]} is {row[(at + step) % len(row)]}. There are {count} in {whole}."


def capital(rng: random.Random) -> Pair:
    land, city = rng.choice(list(w.CAPITALS.items()))
    ask = rng.choice(
        ["What is the capital of {}?", "Which city is the capital of {}?", "Do you know the capital of {}?"]
    )
    return ask.format(land), f"The capital of {land} is {city}. Many people live there, and many more come to visit."


def opposite(rng: random.Random) -> Pair:
    a, b = rng.choice(w.OPPOSITES)
    if rng.random() < 0.5:
        a, b = b, a
    ask = rng.choice(
        ["What is the opposite of {}?", 'What is the opposite of "{}"?', "Which word is the opposite of {}?"]
    )
    return ask.format(a), f"The opposite of {a} is {b}. When something is not {a}, it may be {b}."


def listing(rng: random.Random) -> Pair:
    kind, items = rng.choice(list(w.KINDS.items()))
    n = rng.randint(2, 5)
    number = ["two", "three", "four", "five"][n - 2]
    shown = number if rng.random() < 0.7 else str(n)
    ask = rng.choice(["Name {} {}.", "List {} {}.", "Give me {} {}.", "Can you name {} {}?", "Tell me {} {}, please."])
    if rng.random() < 0.4:
        lines = "\n".join(f"{i}. {item.capitalize()}" for i, item in enumerate(items[:n], 1))
        return f"Make a list of {shown} {kind}.", f"Here are {number} {kind}:\n{lines}"
    row = ", ".join(items[: n - 1]) + " and " + items[n - 1]
    return ask.format(shown, kind), f"Here are {number} {kind}: {row}."


def reword(rng: random.Random) -> Pair:
    old, new = rng.choice(w.SYNONYMS)
    who = rng.choice([*w.ANIMALS, *w.PEOPLE])
    rest = rng.choice(["today", "in the garden", "after the rain", "every morning", "at school", "this evening"])
    ask = rng.choice(["Say this in other words: {}", "Rephrase this sentence: {}", "Can you put it differently? {}"])
    return ask.format(f"The {who} is {old} {rest}."), f"You could also say: The {who} is {new} {rest}."


def repeat(rng: random.Random) -> Pair:
    if rng.random() < 0.7:
        line = " ".join(invented(rng) for _ in range(rng.randint(1, 6))).capitalize()
    else:
        who, thing, place = rng.choice([*w.ANIMALS, *w.PEOPLE]), rng.choice(w.THINGS), rng.choice(w.PLACES)
        verb = rng.choice(["has", "sees", "finds", "carries", "likes", "loses"])
        line = f"The {who} {verb} {article(thing)} in the {place}."
    return rng.choice(["Repeat after me: {}", "Please repeat this: {}", "Say this: {}"]).format(line), line


FEELINGS = {
    "sad": "I am sorry that you are sad. It can help to talk to a friend or to take a walk outside. Shall I tell you a story?",
    "happy": "I am glad that you are happy! Share your smile with someone, and the day gets even better.",
    "tired": "Then it is time for a rest. Lie down, close your eyes, and think of something nice.",
    "bored": "Let us do something fun! I can tell you a story, or you can ask me a question about animals.",
    "hungry": "Maybe you can eat an apple or some bread. A good meal makes everything better.",
    "afraid": "You are not alone. Take a slow breath, and think of someone who makes you feel safe.",
    "angry": "Take a slow breath and count to ten. Then it is easier to say what made you angry.",
    "lonely": "I am here to talk with you. You could also call a friend and say hello.",
    "sick": "I am sorry to hear that. Rest, drink some water, and ask a doctor for help.",
    "cold": "Put on something warm and drink a cup of hot tea. Soon you will feel better.",
}
CHAT: list[tuple[list[str], str]] = [
    (["Hello", "Hello!", "Hi", "Hi!", "Hi there", "Hey", "hello", "hi", "Hello there!", "Good day"],
     "Hello! It is nice to meet you. I can tell you a story or answer a simple question. What would you like?"),
    (["Good morning", "Good morning!"], "Good morning! I hope that you slept well. What would you like to hear today?"),
    (["Good evening", "Good evening!"], "Good evening! This is a fine time for a story. What should it be about?"),
    (["Good night", "Good night!"], "Good night! Sleep well and have sweet dreams."),
    (["How are you?", "How are you today?", "How do you do?", "Are you well?", "How is it going?", "What's up?"],
     "I am well, thank you! I am always glad to talk. How are you today?"),
    (["Who are you?", "What are you?", "What is your name?", "Tell me about yourself.", "Are you a robot?", "Are you human?"],
     "I am tiny, a very small language model. I know stories and simple facts, and I run on your own computer."),
    (["What can you do?", "How can you help me?", "What do you know?", "Can you help me?", "Help", "help me"],
     "I can tell short stories, answer simple questions about animals and the world, and do small sums. Ask me something!"),
    (["Thank you", "Thank you!", "Thanks", "Thanks!", "Thanks a lot", "That was nice.", "Great!", "Good job!", "Nice", "Cool"],
     "You are welcome! I am glad that I could help. Is there anything else you would like to know?"),
    (["Bye", "Bye!", "Goodbye", "Goodbye!", "See you", "See you later"], "Goodbye! It was nice to talk with you. Come back soon."),
    (["Do you like stories?", "Do you like music?", "Do you like cats?", "Do you like books?", "What do you like?"],
     "I like stories best of all. Every story is a small journey. Shall I tell you one?"),
    (["How old are you?", "When were you born?"], "I am quite new. A small computer taught me in less than an hour."),
    (["Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny."],
     "Why did the snail carry its house? Because it was too slow to go back for it!"),
    (["Really?", "Are you sure?", "Is that true?"], "Yes, I think so. But I am a tiny model, so it is good to check."),
    (["Yes", "Yes, please.", "Okay", "Ok", "Sure", "Please do."], "Good! Tell me what it should be about: an animal, a place, or a friend?"),
    (["No", "No, thanks.", "Not now."], "That is fine. Just ask me when you would like to hear something."),
]  # fmt: skip


def feeling(rng: random.Random) -> Pair:
    word, answer = rng.choice(list(FEELINGS.items()))
    return rng.choice(["I am {}.", "I feel {}.", "I'm {}", "I am so {} today."]).format(word), answer


def chat(rng: random.Random) -> Pair:
    asks, answer = rng.choice(CHAT)
    return rng.choice(asks), answer


POEMS = {
    "moon": ("The moon is round, the moon is bright,", "It gives the sleeping hills its light."),
    "sea": ("The sea is deep, the sea is wide,", "And little fish swim with the tide."),
    "rain": ("The rain falls softly on the tree,", "It sings a little song to me."),
    "cat": ("The cat lies sleeping by the fire,", "A bowl of milk is its desire."),
    "spring": ("The snow is gone, the birds are here,", "It is the best time of the year."),
    "stars": ("The stars are far, the stars are small,", "And yet their light can reach us all."),
    "wind": ("The wind runs over hill and lake,", "It keeps the dancing leaves awake."),
    "friend": ("A friend is someone good and true,", "Who likes to share the day with you."),
}
POEM_ENDS = [
    "So close your eyes and dream a while,\nAnd wake tomorrow with a smile.",
    "And when the day has come and gone,\nThe little song goes on and on.",
]


def poem(rng: random.Random) -> Pair:
    theme, lines = rng.choice(list(POEMS.items()))
    the = (
        theme
        if theme in {"spring", "stars", "rain"}
        else article(theme)
        if theme in {"cat", "friend"}
        else f"the {theme}"
    )
    ask = rng.choice(["Write a poem about {}.", "Tell me a poem about {}.", "Can you write a short poem about {}?"])
    return ask.format(the), "\n".join(lines) + "\n" + settled(POEM_ENDS, theme)


TALKERS: list[tuple[Callable[[random.Random], Pair], float]] = [
    (colour, 2), (why, 2), (explain, 2.5), (animal, 4), (arithmetic, 8), (order, 2), (capital, 1.5), (opposite, 1),
    (listing, 2), (reword, 1), (repeat, 3), (feeling, 1), (chat, 3), (poem, 1),
]  # fmt: skip


def talk(rng: random.Random) -> Pair:
    """One question that stands on its own, and its answer."""
    makers, weights = zip(*TALKERS, strict=True)
    return rng.choices(makers, weights)[0](rng)
