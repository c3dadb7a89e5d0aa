"""When a run is over, its data and its network's optimiser go at once: a study makes many runs in one process."""

import gc
import weakref
from functools import partial

import pytest

import engram
import quiet
from engram.study.session import StudySession


@pytest.mark.parametrize("clinic", ["none", "default"])
@pytest.mark.parametrize("session", [quiet.Quiet, partial(StudySession, judged="final", test=True)])
def test_what_a_run_used_is_freed_without_a_collection(tmp_path, session, clinic):
    used = []

    def kept(*given):
        one = session(*given)
        used[:] = [weakref.ref(thing) for thing in (one, one.assembled, one.assembled.parts.pool, one.watch)]
        return one

    settings = {"model": "mlp", "data": "digits", "epochs": 1, "device": quiet.DEVICE, "session": kept}
    settings |= {} if clinic == "default" else {"clinic": clinic}
    engram.train(**settings, output=str(tmp_path / "first"))  # torch keeps the frames in which it is first imported
    gc.collect()
    gc.disable()
    try:
        run = engram.train(**settings, output=str(tmp_path / "second"))
        alive = [one() for one in used]
    finally:
        gc.enable()
    assert run.reason == "finished"
    assert [type(one).__name__ for one in alive if one is not None] == []
