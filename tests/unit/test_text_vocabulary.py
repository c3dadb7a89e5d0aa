"""Text to numbers and back without loss, what is unknown is named, and JSON keeps it all."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.errors import UserError
from engram.text import words
from engram.text.read import from_bytes, read
from engram.text.vocabulary import END, PADDING, SPECIAL, START, UNKNOWN, Bytes, Characters, Words, from_dict

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


@given(TEXT)
def test_characters_bytes_and_words_of_a_text_give_it_back(text):
    for vocabulary in (Characters.of(text), Bytes(), Words.of(text, style="text")):
        assert vocabulary.decode(vocabulary.encode(text)) == text
        assert from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary


@given(TEXT)
def test_bytes_are_those_of_utf_8(text):
    assert Bytes().encode(text) == list(text.encode("utf-8"))
    assert Bytes(SPECIAL).encode(text) == [4 + byte for byte in text.encode("utf-8")]


@given(st.lists(st.sampled_from(["a", "dog", "cat", "its", "ÄRGER"]), min_size=1))
def test_words_of_a_sentence_come_back_in_lower_case(some):
    vocabulary = Words.of(" ".join(some))
    assert vocabulary.decode(vocabulary.encode("  ".join(some) + "!")) == " ".join(some).lower()


def test_words_are_numbered_by_frequency_then_by_letter():
    vocabulary = Words.of(["b b b a", "c c a d"], at_least=2, special=[UNKNOWN])
    assert vocabulary.tokens == (UNKNOWN, "b", "a", "c")
    assert vocabulary.encode("d c b a e") == [0, 3, 1, 2, 0]


def test_a_sentence_is_enclosed_and_decoding_stops_at_its_end():
    vocabulary = Words.of(["a dog"], special=SPECIAL)
    assert vocabulary.special_index(PADDING) == 0
    enclosed = vocabulary.enclose("a cat")
    assert enclosed == [vocabulary.index[token] for token in (START, "a", UNKNOWN, END)]
    assert vocabulary.decode([*enclosed, 0, 0]) == "a <unknown>"
    assert vocabulary.decode([*enclosed, *enclosed]) == "a <unknown>"


def test_the_indices_of_special_tokens_are_never_text():
    vocabulary = Words.of(["start end unknown padding", "<start> <end>"])
    assert vocabulary.encode("<start>") == [vocabulary.index["start"]] != [vocabulary.index[START]]
    assert set(Characters.of("<start>", special=SPECIAL).encode("<start>")) <= set(range(4, 11))


def test_a_prompt_with_unknown_characters_is_told_which_and_what_is_near():
    with pytest.raises(UserError) as told:
        Characters.of("ROMEO: 'tis\n").encode("Rómeo – “’tis")
    assert str(told.value).splitlines() == [
        "the vocabulary of 11 characters lacks 'ó', 'm', 'e', 'o', '–', '“', '’'",
        "  allowed: \\n ':EMORist",
        "  did you mean: 'O' for 'ó', 'M' for 'm', 'E' for 'e', 'O' for 'o', \"'\" for '’'",
    ]


def test_a_long_list_of_unknown_units_is_cut():
    with pytest.raises(UserError, match=r"and 18 more\n"):
        Characters.of("0").encode("abcdefghijklmnopqrstuvwxyz")
    with pytest.raises(UserError, match=r"2 words lacks 'dgo'\n.*'dog' for 'dgo'"):
        Words.of("a dog", special=()).encode("a dgo")


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ({"unit": "letter"}, "unit of a vocabulary 'letter' is not known"),
        ([], "unit of a vocabulary 'None'"),
        ({"unit": "word", "entries": "ab"}, "no list of tokens"),
        ({"unit": "word", "entries": ["a", 1]}, "no list of tokens"),
        ({"unit": "character", "entries": ["a", "a"]}, "'a' twice"),
        ({"unit": "word", "special": ["<begin>"], "entries": ["a"]}, "special token '<begin>' is not known"),
        ({"unit": "word", "entries": ["a"], "style": "loud"}, "style of words 'loud'"),
        ({"unit": "byte", "entries": ["a"]}, "other keys"),
    ],
)
def test_a_damaged_vocabulary_is_refused(damaged, message):
    with pytest.raises(UserError, match=message):
        from_dict(damaged)


def test_nothing_to_build_from_is_told():
    for build in (Characters.of, Words.of):
        with pytest.raises(UserError, match="text is empty"):
            build("")
    with pytest.raises(UserError, match="no word occurs 3 times") as told:
        Words.of(["a a b"], at_least=3)
    assert told.value.allowed == "at_least 2 or less"
    with pytest.raises(UserError, match="special token '<start>'"):
        Characters.of("a").enclose("a")


def test_a_file_is_read_as_it_is(tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes("\ufeffone\r\ntwö\n".encode())
    assert read(file) == "one\r\ntwö\n"
    for content, message in ((b"", "is empty"), (b"\xef\xbb\xbf", "is empty"), (b"ab\n\n\xff", r"offset 4 \(line 3\)")):
        file.write_bytes(content)
        with pytest.raises(UserError, match=message):
            read(file)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read(tmp_path / "none.txt")


@given(st.binary(max_size=40))
def test_bytes_are_decoded_whole_or_refused_where_python_refuses(content):
    try:
        expected = content.decode("utf-8")
    except UnicodeDecodeError as error:
        with pytest.raises(UserError, match=f"at offset {error.start} "):
            from_bytes(content)
        return
    if expected.lstrip("\ufeff"):
        assert from_bytes(content) == expected.removeprefix("\ufeff")


def test_sentences_lose_case_and_punctuation():
    assert words.of_sentence("The “Dog's” tail—white/grey; it’s, well: 3 $!") == [
        "the", "dogs", "tail", "white", "grey", "its", "well", "3",
    ]  # fmt: skip
