"""What every test starts from: one thread, so that many tests side by side do not fight for the cores."""

import torch

torch.set_num_threads(1)
