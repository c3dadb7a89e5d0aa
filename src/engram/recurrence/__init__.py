"""What happens inside a recurrent network: how far its gradient reaches back, what its gates do, what its cells follow.

    past_gradient   norms of the loss's gradient with respect to every past state, and `horizon`, where they have faded
    copying, adding two problems whose span is known, and `span`, which trains until one of them fails
    spectrum        largest singular values: of the recurrent matrices, and of the step itself at states that occur
    gates           how often a gate is shut or open, unit by unit
    text_features   what a cell could follow: quotes, brackets, the place in a line
    cells           which cell follows what, measured against a control, and how many follow nothing
    look            all of it for a network that writes, into its run's folder

Functions of arrays and networks, which change neither; what they find is drawn by `engram.report`.
"""
