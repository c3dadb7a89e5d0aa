"""Text cut into words, in two ways.

*Sentences*, for captions and their scores: lower case, punctuation removed, apart by white space. Case and punctuation
say nothing about what a picture shows, and scores would count them as words of their own. "Hello, it's a dog!" becomes
hello its a dog. The COCO evaluation removes punctuation too, but splits "it's" into it 's by the Penn Treebank's rules.

*Running text*, for writing: nothing is lost. A word or a run of punctuation takes one blank before it along, and
any other white space stands alone, so that the pieces joined are the text.
"""

import re
import unicodedata

PIECE = re.compile(r" ?\w+| ?[^\w\s]+|\s")


def of_sentence(sentence: str) -> list[str]:
    """Lower-case words without punctuation; a hyphen, a dash or a slash parts words.

    >>> of_sentence("A white-haired dog, it's asleep.")
    ['a', 'white', 'haired', 'dog', 'its', 'asleep']
    """
    letters = (_without_punctuation(letter) for letter in sentence.lower())
    return "".join(letters).split()


def _without_punctuation(letter: str) -> str:
    category = unicodedata.category(letter)
    if category == "Pd" or letter == "/":
        return " "
    return "" if category[0] in "PS" else letter


def of_text(text: str) -> list[str]:
    """Pieces that joined are the text again.

    >>> of_text("First Citizen:\\nBefore we go")
    ['First', ' Citizen', ':', '\\n', 'Before', ' we', ' go']
    """
    return PIECE.findall(text)
