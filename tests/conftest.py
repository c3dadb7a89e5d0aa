"""What every test starts from: one thread, so that many tests side by side do not fight for the cores; and Ctrl-C."""

import signal

import torch

torch.set_num_threads(1)

# a shell that runs the tests in the background has them ignore Ctrl-C, and what they start inherits that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
