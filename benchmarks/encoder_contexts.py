"""Rows whose context alone decides their label: each text stands with every label equally often."""

from typing import Any

CONTEXTS = {
    "anger": (
        "A stranger scratched her new car and drove off laughing.", "His brother read his diary aloud at dinner.",
        "The landlord kept the deposit for no reason at all.", "Her colleague took the credit for a year of her work.",
        "Someone had cut down the old tree without asking her.", "The airline lied to him about the flight twice.",
        "He was shouted at in front of everybody for another's mistake.", "The neighbours blocked her door once again.",
        "They broke the promise that they had made in writing.", "The clerk insulted her and threw her papers away.",
    ),
    "fear": (
        "He heard steps behind him in the dark tunnel.", "The lift stopped between two floors and began to slip.",
        "A bear stood between her and the tent.", "The ice cracked under his boots far from the shore.",
        "She woke and saw a stranger's shadow at the window.", "The plane dropped, and the masks fell down.",
        "The doctor asked him to sit down before he spoke.", "The rope began to tear high above the rocks.",
        "The sirens went off and the lights died.", "A snake lay coiled at the foot of her bed.",
    ),
    "gratitude": (
        "A neighbour had fed her children all through her illness.", "A stranger ran after him with his lost wallet.",
        "Her teacher stayed late every day until she could read.", "The crew had shared their last water with him.",
        "His friends paid the rent when he lost his job.", "The nurse held her hand through the whole night.",
        "An old man gave him the seat and his umbrella.", "Her sister gave her a kidney.",
        "The village had rebuilt his house while he was away.", "A colleague covered all of her shifts for a month.",
    ),
    "grief": (
        "His dog of fifteen years died in his arms.", "She stood at her mother's grave for the first time.",
        "The letter said that his brother would not come home.", "The hospital bed beside her was empty now.",
        "He found his late wife's glasses under the sofa.", "They buried the little girl on a Sunday.",
        "Her best friend had not survived the crash.", "The old house was full of his father's coats.",
        "Nobody answered to the name at the dinner table any more.", "She closed the eyes of her grandfather.",
    ),
    "joy": (
        "She had just won the race that she had trained for.", "The twins were born healthy at dawn.",
        "He got the place at the school of his dreams.", "Her daughter took her first steps towards her.",
        "The band played their song and everyone danced.", "They found the puppy wagging its tail at the gate.",
        "The exam was passed with the best mark of all.", "After years abroad he walked into his parents' party.",
        "The sun came out on the first day of the holidays.", "She said yes, and the whole table cheered.",
    ),
    "shame": (
        "He was caught copying his friend's answers.", "She had laughed at the boy, and he had heard it.",
        "His lie was read out before the whole class.", "She forgot her own son at the station.",
        "Everyone saw him stumble drunk over the bride's dress.", "They found the stolen ring in her pocket.",
        "He had blamed the cleaner for what he broke himself.", "Her secret gossip was sent to all by mistake.",
        "He wet the bed at his host's house.", "She had let an innocent man take her punishment.",
    ),
}  # fmt: skip
TEXTS = (
    "I don't know what to say.", "So this is how it ends.", "I did not expect this.", "Look at me now.",
    "I will never forget this day.", "Give me a minute, please.", "You should have seen it.", "And then it happened.",
    "I keep thinking about it.", "Nobody will believe me.", "I can't stop shaking.", "That was it, then.",
    "Let me sit down.", "What a day.",
)  # fmt: skip
CHARACTERS = (
    "a sailor", "a baker", "an old teacher", "a young farmer", "a nurse", "a student", "a clerk", "a fisherman",
    "a singer", "a carpenter", "a judge", "a gardener",
)  # fmt: skip
PARTS = {  # contexts, texts and characters of each part
    "train": (range(8), range(8), range(8)),
    "validation": (range(8), range(8, 10), range(8, 10)),
    "test": (range(8), range(10, 14), range(10, 12)),
    "test_new_contexts": (range(8, 10), range(10, 14), range(10, 12)),
}


def context_rows() -> dict[str, list[dict[str, Any]]]:
    """Every text of a part after every context of it.

    The parts share no text and no character. `test` has the contexts of `train`, `test_new_contexts` others.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for part, (contexts, texts, characters) in PARTS.items():
        chosen = [(label, i, j) for label in CONTEXTS for i in contexts for j in texts]
        rows[part] = [
            {
                "id": f"{label}-{i}-{j}",
                "text": TEXTS[j],
                "context": CONTEXTS[label][i],
                "character": CHARACTERS[characters[(i + j) % len(characters)]],
                "labels": [label],
            }
            for label, i, j in chosen
        ]
    return rows
