"""Text that reads well and means little: made of the prompt's own words, the same for the same prompt."""

import re
from collections import Counter
from pathlib import Path
from random import Random

STOPWORDS = frozenset(Path(__file__).with_name("stopwords.txt").read_text().split())
WORD = re.compile(r"[A-Za-z][A-Za-z'’-]+[A-Za-z]")
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7}
LIMIT = re.compile(
    r"\b(one|two|three|four|five|six|seven|\d{1,2})\s+(?:[a-z]+\s+)?"
    r"(sentences?|bullets?|points|lines?|steps|ideas|items|words)\b",
    re.IGNORECASE,
)
INTENTS = (
    ("combine", r"\b(combine|merge|reconcile|bring together|synthesi[sz]e|both answers|final answer)\b"),
    ("compare", r"\b(compare|versus|vs\.?|differences?|pros and cons|trade-?offs?)\b"),
    ("summary", r"\b(summari[sz]e|summary|digest|tl;?dr|key points|brief|recap|highlights)\b"),
    ("plan", r"\b(plan|steps|roadmap|checklist|how to|how do|how should|agenda|outline)\b"),
    ("letter", r"\b(e-?mail|letter|announcement|reply to|draft a message|post about|newsletter)\b"),
    ("label", r"\b(classify|categori[sz]e|label|sentiment|priorit(y|ise|ize)|triage)\b"),
)
PAUSE = re.compile(r"[^\w\s'’-]+|\n")
LONGEST_SENTENCE = 32
LONGEST_PHRASE = 3
LONGEST_WORD = 24

OPENINGS = {
    "summary": ("In short:", "What matters most:", "The short version:"),
    "combine": ("Taken together, the answers agree on this:", "Read side by side, these points hold:"),
    "note": ("A few thoughts on {topic}.", "Here is how I would look at {topic}.", "Three notes on {topic}."),
}
# Each reads well with one thing or many: the topic is never the subject of a verb.
REMARKS = (
    "Begin with **{p}**, because the rest depends on it.",
    "Give **{p}** one number to watch, and look at it every week.",
    "For **{p}**, the cheapest check is to compare this week with the last one.",
    "Name one owner for **{p}** and one date on which to look again.",
    "If there is trouble with **{p}**, say so early; a short note beats a late surprise.",
    "With **{p}**, small reversible steps teach more than one large decision.",
    "Write down what a good result for **{p}** looks like before starting.",
    "Leave **{p}** until the simpler questions are settled.",
    "Ask the people closest to **{p}** what they would drop first.",
    "Expect most surprises around **{p}** to come from a hand-over nobody wrote down.",
)
STEPS = (
    "Collect what is already known about **{p}** and mark what is missing.",
    "Agree on what a good result for **{p}** looks like.",
    "Try the smallest version of **{p}** with real data.",
    "Show **{p}** to one person who was not involved, and note where they stumble.",
    "Decide about **{p}** on the evidence, and write the reason beside the decision.",
    "Return to **{p}** after a week.",
)
CLOSINGS = (
    "Next step: choose one of these and give it an afternoon.",
    "If only one thing gets done, let it be the first.",
    "Worth a second look tomorrow with fresh numbers.",
)


def answer(prompt: str, *, chance: Random) -> str:
    """An answer to a prompt: the points of the text it brings along, or remarks about what it names."""
    instruction, material = _split(prompt)
    intent = next((name for name, pattern in INTENTS if re.search(pattern, instruction, re.IGNORECASE)), "note")
    topics = phrases(prompt, 6) or ["the request"]
    wanted, unit = _limit(instruction)
    sentences = _sentences(material)
    if intent == "label":
        return _label(topics, chance)
    if len(sentences) >= 2:
        points = _telling(sentences, wanted or (4 if intent == "combine" else 3))
        opening = chance.choice(OPENINGS["combine" if intent == "combine" else "summary"])
        return _laid_out(points, opening=opening, closing=_about(topics, chance), unit=unit)
    if intent == "letter":
        return _letter(topics, chance)
    if intent == "compare" and len(topics) > 1:
        return _comparison(sorted(topics, key=lambda topic: prompt.lower().find(topic.lower())), chance)
    lines = STEPS if intent == "plan" else tuple(chance.sample(REMARKS, len(REMARKS)))
    number = min(wanted or (4 if intent == "plan" else 3), len(lines))
    points = [_fill(lines[index], topics[index % len(topics)]) for index in range(number)]
    if intent == "plan":
        return (
            "\n".join(f"{index}. {point}" for index, point in enumerate(points, 1)) + f"\n\n{chance.choice(CLOSINGS)}"
        )
    opening = chance.choice(OPENINGS["note"]).format(topic=topics[0])
    return _laid_out(points, opening=opening, closing=chance.choice(CLOSINGS), unit=unit)


def about_tools(results: list[str], prompt: str) -> str:
    """An answer that passes on what tools said."""
    quoted = "\n\n".join(f"> {_clipped(' '.join(result.split()), 60)}" for result in results)
    topics = phrases(prompt, 2)
    subject = f" about {' and '.join(topics)}" if topics else ""
    return f"Here is what I found{subject}:\n\n{quoted}\n\nThat is everything the tool returned; nothing was added."


def thoughts(prompt: str) -> str:
    """What the model says it thought, before it answers."""
    topics = phrases(prompt, 3) or ["a short request"]
    return f"The request is about {', '.join(topics)}. A short, ordered answer that uses its own words fits best."


def phrases(text: str, number: int) -> list[str]:
    """What a text is about: runs of telling words that stand together, the most telling first."""
    runs = [run for part in PAUSE.split(text[:20_000]) for run in _runs(part)]
    weight = Counter(word.lower() for run in runs for word in run)
    scored = {" ".join(run): sum(weight[word.lower()] for word in run) * weight[run[0].lower()] for run in runs}
    chosen: list[str] = []
    taken: set[str] = set()
    for phrase in sorted(scored, key=scored.__getitem__, reverse=True):
        words = set(phrase.lower().split())
        if len(chosen) < number and not words & taken:
            chosen.append(phrase)
            taken |= words
    return chosen


def _runs(part: str) -> list[list[str]]:
    """The runs of up to three telling words in a part without punctuation."""
    runs: list[list[str]] = [[]]
    for place, word in enumerate(part.split()):
        if WORD.fullmatch(word) and len(word) <= LONGEST_WORD and word.lower() not in STOPWORDS:
            # A capital at the start says nothing; elsewhere it belongs to the name.
            runs[-1].append(word.lower() if place == 0 and word[1:].islower() else word)
        else:
            runs.append([])
    return [run[-LONGEST_PHRASE:] for run in runs if run]


def _split(prompt: str) -> tuple[str, str]:
    """What is to be done, and the text it is to be done with."""
    head, _, rest = prompt.strip().partition("\n")
    if len(rest.split()) >= 12:
        return head[:2000], rest
    head, colon, rest = prompt.partition(":")
    if colon and len(head.split()) < 40 and len(rest.split()) >= 12:
        return head, rest
    return prompt[:2000], ""


def _limit(instruction: str) -> tuple[int, str]:
    found = LIMIT.search(instruction)
    if not found:
        return 0, ""
    said, unit = found[1].lower(), found[2].lower().rstrip("s")
    number = NUMBERS[said] if said in NUMBERS else int(said)
    return (0, unit) if unit == "word" else (min(max(number, 1), 8), unit)


def _sentences(material: str) -> list[str]:
    found = (re.sub(r"^[\s>*#\-\d.)]+|\*\*", "", part).strip() for part in SENTENCE.split(material[:40_000]))
    unique = dict.fromkeys(sentence for sentence in found if len(sentence.split()) >= 4)
    return list(unique)


def _telling(sentences: list[str], number: int) -> list[str]:
    """The sentences that share most words with the others, in their own order."""
    weight = Counter(word.lower() for sentence in sentences for word in WORD.findall(sentence))

    def score(sentence: str) -> float:
        words = [word.lower() for word in WORD.findall(sentence) if word.lower() not in STOPWORDS]
        return sum(weight[word] for word in words) / (len(words) + 3)

    best = set(sorted(sentences, key=score, reverse=True)[:number])
    return [_clipped(sentence, LONGEST_SENTENCE) for sentence in sentences if sentence in best]


def _laid_out(points: list[str], *, opening: str, closing: str, unit: str) -> str:
    if unit in ("sentence", "line") or len(points) == 1:
        return " ".join(point if point[-1:] in ".!?…" else f"{point}." for point in points)
    bullets = "\n".join(f"- {point}" for point in points)
    return f"{opening}\n\n{bullets}" if unit else f"{opening}\n\n{bullets}\n\n{closing}"


def _about(topics: list[str], chance: Random) -> str:
    return _fill(chance.choice(REMARKS), topics[0])


def _letter(topics: list[str], chance: Random) -> str:
    body = " ".join(_fill(line, topic) for line, topic in zip(chance.sample(REMARKS, 3), topics, strict=False))
    return f"Subject: {topics[0].capitalize()}\n\nHello,\n\n{body}\n\n{chance.choice(CLOSINGS)}\n\nKind regards"


def _comparison(topics: list[str], chance: Random) -> str:
    first, second = topics[0], topics[1]
    left, right = chance.sample(REMARKS, 2)
    rows = f"| **{first}** | {_fill(left, first)} |\n| **{second}** | {_fill(right, second)} |"
    return f"| Option | What speaks for a closer look |\n| --- | --- |\n{rows}\n\n{chance.choice(CLOSINGS)}"


def _label(topics: list[str], chance: Random) -> str:
    label = chance.choice(("high", "medium", "low"))
    return f"**{label.capitalize()}**: it is mainly about {' and '.join(topics[:2])}."


def _fill(line: str, topic: str) -> str:
    return line.format(p=topic, P=topic[:1].upper() + topic[1:])


def _clipped(text: str, words: int) -> str:
    parts = text.split()
    return text if len(parts) <= words else " ".join(parts[:words]) + " …"
