"""Attribution: which parts of an input a network's score of a class depends on, as a map over the input.

    import engram
    map = engram.attribution.grad_cam(net, x)          # any nn.Module; (B, *S) for x (B, C, *S)

One paper a file; all are functions `(net, x, y=None, ...)` of x (B, C, *S) as the network takes it, normalised, and of
the classes y that are asked about, by default those that the network predicts:

    gradient                 how much the score would change with each pixel          Simonyan et al. 2013
    smooth_grad              the same, averaged over noisy copies of the input        Smilkov et al. 2017
    grad_cam                 where the last maps speak for the class, coarse          Selvaraju et al. 2017
    guided_backpropagation   what excites the units on the way, sharp                 Springenberg et al. 2014

None of them explains a decision. A map can look convincing and hardly depend on what was learned: Adebayo et al. 2018,
arXiv:1810.03292, found that of guided backpropagation, and that gradient and Grad-CAM do depend on it.

Networks inside DataParallel, DistributedDataParallel or `torch.compile` are found there. A network is asked in
evaluation mode and in its own precision, without autocast, and is afterwards as it was: weights, gradients, buffers,
hooks, modes and generators.
"""

from engram.attribution.grad_cam import grad_cam
from engram.attribution.gradient import gradient
from engram.attribution.guided_backpropagation import guided_backpropagation
from engram.attribution.smooth_grad import smooth_grad

__all__ = ["grad_cam", "gradient", "guided_backpropagation", "smooth_grad"]
