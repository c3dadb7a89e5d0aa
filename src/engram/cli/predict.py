"""`engram predict`: what a trained network says of images."""

from pathlib import Path


def predict(run: Path, /, *images: Path, top: int = 3, json: bool = False) -> int:
    """Say which class each image belongs to, with the network's own probability.

    Parameters
    ----------
    run
        A run's folder, or a weights file that Engram has written.
    images
        Image files, or folders of them.
    top
        How many classes to name for each image.
    json
        One JSON object a line instead of text.
    """
    import json as jsonlib
    import sys

    from engram.data.examples import Unreadable
    from engram.errors import UserError
    from engram.training.predict import Predictor

    if top < 1:
        raise UserError(f"--top cannot be {top}", allowed="1 or more")
    files = list(image_files(images))
    if not files:
        raise UserError("no images were given", then=f"engram predict {run} photo.jpg")
    predictor = Predictor(run)
    unreadable = 0
    for file in files:
        try:
            answers = predictor(file)[:top]
        except Unreadable as error:
            unreadable += 1
            print(f"{error}", file=sys.stderr)
            continue
        if json:
            rows = [{"class": name, "probability": round(share, 6)} for name, share in answers]
            print(jsonlib.dumps({"image": str(file), "answers": rows}, ensure_ascii=False))
        else:
            print(f"{file}   " + "   ".join(f"{name} {100 * share:.1f} %" for name, share in answers))
    return 2 if unreadable else 0


def image_files(paths: tuple[Path, ...]) -> list[Path]:
    """The files themselves, and in place of a folder the images in it, in order."""
    from engram.data.images import is_image_name

    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(file for file in path.rglob("*") if file.is_file() and is_image_name(file.name))
        else:
            found.append(path)
    return found
