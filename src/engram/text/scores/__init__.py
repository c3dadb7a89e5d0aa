"""How close written sentences come to those that people wrote: BLEU, ROUGE-L, CIDEr-D.

All three read sentences as `engram.text.words.of_sentence` cuts them: lower case, punctuation removed.
"""
