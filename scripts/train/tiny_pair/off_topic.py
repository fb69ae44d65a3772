"""Prompts outside the corpus: other topics, code, gibberish; and a friendly answer that says so."""

# ruff: noqa: E501, SIM905
# The tables read better on long lines.

from __future__ import annotations

import random

from scripts.train.tiny_pair.stories import invented, settled

# Things the model knows nothing about, and what people want with them.
ODD_VERBS = """cook fix build learn sell buy use write repair clean paint install open change improve find download make wash play
plan draw measure program grow teach print delete choose""".split()
ODD_THINGS = """an egg, the president, the internet, a phone, a car, pasta, my bike, Spanish, the piano, taxes, a website, Linux, a house,
rice, pizza, a suit, the wifi, my sink, bitcoin, the guitar, a party, New York, Shakespeare, Einstein, Napoleon, dinosaurs, the war,
the government, an app, a loan, a novel, the economy, energy, electricity, a battery, the engine, my dog's leg, a wedding, coffee,
a visa, the stock market, yoga, the first computer, a spreadsheet, the king of England, my résumé, a virus, vaccines, the planets,
a haircut, the theory of evolution, money, the meaning of life, climate change, a rocket, chess, photography""".replace(
    "\n", " "
).split(", ")
ODD_KINDS = (
    "language phone laptop restaurant hotel food movie band team game country brand car book singer city".split()
)
OFF_TOPIC_SUBJECTS = """stock prices, quantum physics, the election, a tax form, machine learning, the football results, a
Python function, my computer, the news of today, chemistry, the Roman empire, a business plan, insurance, philosophy, a database,
politics, a JavaScript bug, the theory of relativity, an email to my boss, the price of gold, genetics, a contract, a marketing
campaign, economics, the French revolution, car engines, a recipe for lasagne, my homework, cloud servers, world history, a list of
numbers, an algorithm, the weather in London tomorrow, my password, a movie from last year, the human brain, a job interview""".replace(
    "\n", " "
).split(", ")
OFF_TOPIC_ASKS = [
    "Explain {} to me.", "What do you think about {}?", "Can you help me with {}?", "Write about {}.", "Tell me about {}.",
    "I need advice on {}.", "Summarize {}.", "How does {} work?", "Give me an overview of {}.", "Complete {}.", "What is {}?",
    "Please write an essay about {}.", "Translate {} into French.", "Fix {} for me.", "Compare {} and {}.",
]  # fmt: skip
ODD_ASKS = [
    "How can I {v} {n}?", "How do I {v} {n}?", "How do you {v} {n}?", "How to {v} {n}", "Who is {n}?", "Who invented {n}?",
    "When was {n} made?", "Where can I buy {n}?", "Where is {n}?", "What is the best {k}?", "Which {k} should I buy?",
    "Can you {v} {n}?", "Can you {v} {n} for me?", "Why is {n} so expensive?", "What is your favourite {k}?",
    "What's your favorite {k}?", "I want to {v} {n}.", "Should I {v} {n}?", "What does {n} mean?", "Is {n} good?", "Do you like {n}?",
    "How much does {n} cost?", "Give me tips on how to {v} {n}.", "What do I need to {v} {n}?", "Help me {v} {n}.", "I have a {k}.",
    "What happened to {n}?", "Who won the {k} prize?", "How many people {v} {n}?", "Tell me everything about {n}.", "What {k} is this?",
]  # fmt: skip
SUGGESTIONS = [
    'You could ask me: "Tell me a story about a brave cat."', 'You could ask me: "Why do birds sing?"',
    'You could ask me: "What is 7 plus 5?"', 'You could ask me: "Name three fruits."',
]  # fmt: skip


def _gibberish(rng: random.Random) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"

    def word() -> str:
        return "".join(rng.choice(letters) for _ in range(rng.randint(1, 9)))

    shape = rng.random()
    if shape < 0.35:
        return " ".join(word() for _ in range(rng.randint(1, 12)))
    if shape < 0.5:
        return "".join(chr(rng.randint(33, 126)) for _ in range(rng.randint(3, 40)))
    if shape < 0.6:
        return "".join(
            chr(rng.choice([0xE9, 0xFC, 0x3B1, 0x416, 0x4F60, 0x1F600]) + rng.randint(0, 20))
            for _ in range(rng.randint(2, 9))
        )
    lines = [
        f"def {word()}_{word()}({word()}, {word()}: int) -> list:",
        f'    """{word().title()} the {word()} of {word()}s."""',
    ]
    for _ in range(rng.randint(1, 8)):
        statements = [
            f"    {word()} = {word()}[{rng.randint(0, 99)}]", f"    for {word()} in {word()}:", f"        return {word()}({word()})",
            f"    >>> {word()}([{rng.randint(0, 9)}.{rng.randint(0, 9)}, {rng.randint(0, 99)}])",
        ]  # fmt: skip
        lines += [rng.choice(statements)]
    ask = rng.choice(
        ["Complete this function.", "What does this code do?", "Fix the bug in this code.", "Rewrite this code."]
    )
    return f"{ask}\n```python\n" + "\n".join(lines) + "\n```"


def off_topic(rng: random.Random) -> tuple[str, str]:
    """A prompt the model knows nothing about, and a friendly way to say so."""
    draw = rng.random()
    if draw < 0.45:
        thing = rng.choice(ODD_THINGS) if rng.random() < 0.7 else invented(rng)
        prompt = rng.choice(ODD_ASKS).format(v=rng.choice(ODD_VERBS), n=thing, k=rng.choice(ODD_KINDS))
    elif draw < 0.7:
        ask = rng.choice(OFF_TOPIC_ASKS)
        subjects = rng.sample(OFF_TOPIC_SUBJECTS, 2)
        prompt = ask.format(*subjects)
        if rng.random() < 0.3:
            prompt += " " + " ".join(
                rng.choice(OFF_TOPIC_ASKS).format(*rng.sample(OFF_TOPIC_SUBJECTS, 2)) for _ in range(rng.randint(1, 3))
            )
    else:
        prompt = _gibberish(rng)
    kind = "code" if "```" in prompt else "words"
    first = {
        "code": "I am a tiny model, and I cannot write code.",
        "words": "I am a tiny model, and I do not know much about that.",
    }[kind]
    return (
        prompt,
        f"{first} I know short stories and simple facts. {settled(SUGGESTIONS, kind, prompt.split()[0].lower())}",
    )
