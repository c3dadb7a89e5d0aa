"""The state of torch's own generators, from which dropout and its kin draw."""

import torch


def global_generators(device: torch.device) -> dict[str, torch.Tensor]:
    """torch's own generators, from which dropout layers draw."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_global_generators(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """The reverse of `global_generators`; a device that the state does not know keeps what it has."""
    torch.set_rng_state(states["cpu"].cpu())
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)
    if device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"].cpu())
