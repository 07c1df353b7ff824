"""Messages that are made up: spam and ham share words, so single ones do not tell."""

import random

SPAM = (
    "win a free {prize} now",
    "claim your {prize} today call now",
    "you have won {prize} reply to claim",
    "urgent your account gets free {prize}",
    "cheap {prize} only today click now",
)
HAM = (
    "see you at {place} {time}",
    "can you call me {time} about the {thing}",
    "are you free for {place} {time}",
    "i left the {thing} at {place}",
    "thanks for the {thing} talk {time}",
)
WORDS = {
    "prize": ["prize", "cash", "phone", "holiday", "ringtone", "voucher"],
    "place": ["lunch", "home", "the office", "the station", "dinner"],
    "time": ["tomorrow", "tonight", "now", "today", "on monday"],
    "thing": ["report", "phone", "keys", "holiday plan", "book"],
}


def make_messages(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Texts, and for each 1 for spam or 0 for ham."""
    chance = random.Random(seed)
    labels = [chance.randrange(2) for _ in range(count)]
    texts = [
        chance.choice(SPAM if label else HAM).format(**{kind: chance.choice(words) for kind, words in WORDS.items()})
        for label in labels
    ]
    return texts, labels
