"""Pictures with sentences: read in the layouts in which such sets are handed out, and made ready for a network.

    from engram.data.captions.open_captions import open_captions
    from engram.data.captions.prepare_captions import prepare_captions
    source = open_captions("flickr8k/")                  # or "scenes", which is made, not downloaded
    prepared = prepare_captions(source, recipe.data, seed=0, device=device)
    for x, y in prepared.train.batches(indices):         # (B, C, H, W) uint8, (B, T) int64

One idea a file:

    source.py            what a layout gives             caption_pool.py      batches of pictures and sentences
    open_captions.py     which layout a path holds       prepare_captions.py  from a source to pools and vocabulary
    flickr8k.py          Flickr8k and Flickr30k          numbered.py          sentences as numbers, which are left out
    coco.py              COCO                            score_captions.py    BLEU, ROUGE-L and CIDEr at once
    karpathy.py          the splits that papers report   attention_score.py   does attention look at what is named?
    tables.py            captions.csv, .tsv, .jsonl      naming_places.py     where the thing is that a word names
    scenes_source.py     scenes by seed                  caption_card.py      is this set sound?
    listing.py           which pictures and sentences belong together, and what is left out
    picture_folder.py    where the pictures lie
"""
