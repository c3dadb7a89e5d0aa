"""From a recipe to everything a run needs: data, network, optimiser, schedule, device. Nothing is trained here."""

from engram.recipe import Recipe
from engram.training.assembled import Assembled, Progress, silent
from engram.training.captioning import assemble_captioning
from engram.training.classifying import assemble_classifying
from engram.training.labelling import assemble_labelling
from engram.training.writing import assemble_writing

ASSEMBLERS = {
    "classify": assemble_classifying,
    "write": assemble_writing,
    "caption": assemble_captioning,
    "label": assemble_labelling,
}


def assemble(recipe: Recipe, progress: Progress = silent, *, resuming: bool = False) -> Assembled:
    """Build everything, in the order in which mistakes are cheapest to find: names first, then data, then memory.

    Args:
        resuming: a saved state follows, so nothing is asked for that only the first weights need.

    Raises:
        UserError: something in the recipe cannot be had.
    """
    return ASSEMBLERS[recipe.task](recipe, progress, resuming=resuming)
