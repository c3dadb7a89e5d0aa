"""Text as numbers and back: vocabularies, chunks for training, ways of writing, and how good the words are."""
