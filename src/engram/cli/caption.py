"""`engram caption`: what a trained network says of pictures, and where it looked for each word."""

from pathlib import Path


def caption(
    run: Path, /, *images: Path, beam: int = 3, longest: int = 20, maps: Path | None = None, json: bool = False
) -> int:
    """Say what each picture shows, in a sentence, and where the network looked for each of its words.

    Parameters
    ----------
    run
        A run's folder, or a weights file that Engram has written.
    images
        Image files, or folders of them.
    beam
        Beginnings of a sentence that are followed; 1 takes the likeliest word each time.
    longest
        Words at which a sentence is cut.
    maps
        A folder for pictures of where it looked, one file an image.
    json
        One JSON object a line instead of text.
    """
    import json as jsonlib
    import sys
    from collections import Counter

    from engram import atomic
    from engram.cli.predict import image_files
    from engram.data.examples import Unreadable
    from engram.errors import UserError
    from engram.text import looks
    from engram.training.describing import Describer

    files = list(image_files(images))
    if not files:
        raise UserError("no images were given", then=f"engram caption {run} photo.jpg")
    describer = Describer(run)
    unreadable, drawn = 0, Counter[str]()
    for file in files:
        try:
            pixels = describer.pixels(file)
        except Unreadable as error:
            unreadable += 1
            print(f"{error}", file=sys.stderr)
            continue
        said = describer(pixels, width=beam, longest=longest)
        looked = [] if said.attention is None else list(zip(said.words, said.attention, strict=False))
        rows = [(word, looks.place_of(one), looks.sharpness(one)) for word, one in looked]
        if maps is not None:
            maps.mkdir(parents=True, exist_ok=True)
            drawn[file.stem] += 1  # of several folders, files may have one name
            name = file.stem if drawn[file.stem] == 1 else f"{file.stem}-{drawn[file.stem]}"
            atomic.write(maps / f"{name}.png", looks.strip(pixels, said))
        if json:
            told = [{"word": word, "looked": place, "sharpness": round(share, 4)} for word, place, share in rows]
            print(
                jsonlib.dumps(
                    {
                        "image": str(file),
                        "sentence": said.sentence,
                        "log_probability": round(said.log_probability, 6),
                        "ended": said.ended,
                        "words": told,
                    },
                    ensure_ascii=False,
                )
            )
            continue
        print(f"{file}   {said.sentence}{'' if said.ended else ' …'}")
        width = max((len(word) for word, *_ in rows), default=0)
        for word, place, share in rows:
            print(f"    {word:<{width}}   {place:<13} {100 * share:3.0f} % of the attention on a tenth of the picture")
    return 2 if unreadable else 0
