"""`engram write`: let a network that has learned from a text go on with one, and see it as it is written."""

from pathlib import Path


def write(
    run: Path,
    /,
    *,
    prompt: str = "",
    length: int = 500,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float = 1.0,
    greedy: bool = False,
    beam: int | None = None,
    seed: int = 0,
    json: bool = False,
) -> int:
    """Write from a prompt on, with a network that `engram train --task write` has trained.

    Parameters
    ----------
    run
        A run's folder, or a weights file that Engram has written.
    prompt
        What the text goes on from; it is printed first. Without one, the beginning of a line.
    length
        Characters to write; bytes or words where the network writes those.
    temperature
        Below 1 the likely becomes likelier, above 1 the text more surprising.
    top_k
        Only the so many likeliest at each step.
    top_p
        Only the likeliest at each step that together are so probable, such as 0.95.
    greedy
        The likeliest at each step, and no draw.
    beam
        The most probable text that a search of this width finds, instead of draws.
    seed
        The same seed writes the same text.
    json
        The prompt, the text and the settings as one JSON object instead of text.
    """
    import json as jsonlib

    import torch

    from engram.errors import UserError
    from engram.text import writing
    from engram.training import weights
    from engram.training.judge import weights_of

    file = weights_of(run)
    described = weights.describe(file)
    if described.task != "write":
        verb = "caption" if described.task == "caption" else "predict"
        raise UserError(f"{run} has learned to {described.task}, not to write", then=f"engram {verb} {run} photo.jpg")
    if greedy and beam is not None:
        raise UserError("--greedy and --beam are two ways to choose", allowed="one of them")
    net, described = weights.load(file)
    vocabulary = described.words()
    if beam is not None:
        text = writing.write_by_beam(net, vocabulary, prompt=prompt, length=length, width=beam)
        pieces = iter([text])
    else:
        pieces = writing.write(
            net,
            vocabulary,
            prompt=prompt,
            length=length,
            rng=torch.Generator().manual_seed(seed),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            greedy=greedy,
        )
    if json:
        settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "greedy": greedy, "beam": beam}
        told = {"prompt": prompt, "text": "".join(pieces), "length": length, "seed": seed, **settings}
        print(jsonlib.dumps(told, ensure_ascii=False))
        return 0
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    return 0
