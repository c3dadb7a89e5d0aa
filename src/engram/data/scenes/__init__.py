"""A captioning set that is made, not downloaded: scenes of real digits and drawn shapes, sentences that are true of
them, and for every word that names something the place where it is.

    from engram.data.scenes.scene import make_scenes
    scenes = make_scenes(10_000, split="train", seed=0)

One idea a file:

    scene.py       what is where, drawn by seed         things.py     what can be in a scene, and what it is called
    drawing.py     ink on a canvas, and its box         sentences.py  five ways to say what is where
    looking.py     a picture of a scene with its boxes    pictures.py  photographs of any set with classes, as things

With photographs nobody can say whether attention looks at the right place; here the right place is known to the pixel.
"""
