"""`engram trace`: numbers forward and gradients backward, through an expression or through a network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from engram.trace.flow import Flow


def trace(
    what: str = "",
    /,
    *,
    image: Path | None = None,
    target: Annotated[str, Parameter(name="--class")] = "",
    gradient: str = "ones",
    seed: int = 0,
    svg: Path | None = None,
    to: Path | None = None,
    json: bool = False,
    **inputs: str,
) -> int:
    """Show how a gradient comes about: every operation with its value, what came back to it, and by which rule.

    `engram trace "(x*y + max(z, w)) * 2" --x 3 --y -4 --z 2 --w -1` is the lecture's circuit. Names without a value get
    small numbers. `engram trace runs/1 --image photo.jpg` follows the gradient through a trained network, and
    `engram trace mine.py:net` through one that is not trained yet. Without anything, it lists the operations that an
    expression may call.

    Parameters
    ----------
    what
        An expression such as "max_pool2d(x, 2)"; a run's folder, or a weights file, with --image; or a network's name,
        or mine.py:net, a function, a class or a network in a file of your own.
    image
        The image that a network looks at.
    target
        The class whose loss the gradient is of; by default the one that the network takes it for.
    gradient
        Of an expression, what is sent into its result: ones or random.
    seed
        For the numbers of names without a value, and the first weights of a network.
    svg
        Write the circuit diagram there: of an expression, or of a small network.
    to
        Of a network, where the page goes; by default trace.html in the run's folder, or here.
    json
        Everything as JSON.
    inputs
        A value for a name: --x 3, --x 1,2,3, --x "1,2;3,4", or a shape, --x 1x1x4x4. Of a network, --x is its input.
    """
    from engram.errors import UserError

    if not what:
        return operations()
    if ".py:" in what or (what.isidentifier() and not Path(what).exists() and _is_network(what)):
        others = [name for name in inputs if name != "x"]
        if others:
            raise UserError(
                f"--{others[0]} is not known for a network", allowed="--x --image --class --seed --to --svg"
            )
        x = inputs.get("x", "")
        return untrained(what, x, image, target=target, seed=seed, svg=svg, to=to, json=json)
    if image is not None:
        if inputs:
            raise UserError(f"--{next(iter(inputs))} is not known for a network", allowed="--image --class --to --json")
        return trained(what, image, target=target, to=to, json=json)
    if Path(what).exists():
        raise UserError(f"{what} is a trained network", then=f"engram trace {what} --image photo.jpg")
    return expression(what, inputs, gradient=gradient, seed=seed, svg=svg, json=json)


def operations() -> int:
    """What an expression may call."""
    import textwrap

    from engram.trace.expression import ALLOWED
    from engram.trace.operations import OPERATIONS

    print(f"An expression has {ALLOWED}:\n")
    print(textwrap.fill(", ".join(OPERATIONS), 100, initial_indent="  ", subsequent_indent="  "))
    print('\nengram trace "(x*y + max(z, w)) * 2" --x 3 --y -4 --z 2 --w -1')
    return 0


def expression(text: str, values: dict[str, str], *, gradient: str, seed: int, svg: Path | None, json: bool) -> int:
    """The trace of an expression, as a tree with tables, and as a diagram where one is asked for."""
    import json as jsonlib

    from engram.trace.expression import trace_text

    seen = trace_text(text, values, gradient=gradient, seed=seed)
    if json:
        print(jsonlib.dumps(seen.to_dict(), ensure_ascii=False))
    else:
        from engram.trace.tree import tables

        print(seen)
        shown = tables(seen)
        if shown:
            print(f"\n{shown}")
        if gradient == "ones" and all(_vanished(node.gradient) for node in seen.nodes if node.kind == "input"):
            print("\nnothing comes back for a gradient of ones; --gradient random shows more")
    if svg is not None:
        from engram.trace.picture import svg as drawn

        write(svg, f"{drawn(seen)}\n")
        if not json:
            print(f"\n{svg}")
    return 0


def _vanished(gradient: object) -> bool:
    """Whether it is nothing but what rounding leaves."""
    from torch import Tensor

    return not isinstance(gradient, Tensor) or bool(gradient.abs().max() < 1e-12 if gradient.numel() else True)


def _is_network(word: str) -> bool:
    from engram import registry

    return word in registry.names("model")


def trained(run: str, image: Path, *, target: str, to: Path | None, json: bool) -> int:
    """The way of the gradient through a trained network, as a table and as a page."""
    from engram.trace.of_run import of_run

    found = of_run(run, image, target=target)
    told(found, json=json)
    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    return paged(found, to or folder / "trace.html", json=json)


def untrained(
    name: str, x: str, image: Path | None, *, target: str, seed: int, svg: Path | None, to: Path | None, json: bool
) -> int:
    """The same of a network that is built anew; of a small one every operation too, as a tree."""
    from engram.errors import UserError
    from engram.trace.of_network import SMALL, of_network

    found, seen = of_network(name, x=x, image=image, target=target, seed=seed)
    if svg is not None:
        if seen is None:
            raise UserError(f"{name} has {found.operations} operations and tensors", allowed=f"{SMALL} for a diagram")
        from engram.trace.picture import svg as drawn

        write(svg, f"{drawn(seen)}\n")
    if seen is not None and not json:
        print(f"{seen}\n")
    told(found, json=json)
    if svg is not None and not json:
        print(f"\n{svg}")
    return paged(found, to or Path("trace.html"), json=json)


def told(found: "Flow", *, json: bool) -> None:
    """What was found, on standard output."""
    import json as jsonlib

    print(jsonlib.dumps(found.to_dict(), ensure_ascii=False) if json else found)


def paged(found: "Flow", to: Path, *, json: bool) -> int:
    """What was found, as a page, and where that is."""
    from engram.trace.page import page

    write(to, page(found))
    if not json:
        print(f"\n{to}")
    return 0


def write(path: Path, content: str) -> None:
    """Write a file in one step, with its folders.

    Raises:
        UserError: it cannot be written.
    """
    from engram import atomic
    from engram.errors import UserError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, content)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
