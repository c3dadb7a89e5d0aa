"""Plain PyTorch: nn.LSTM or nn.GRU, a Dataset of chunks, a DataLoader, Adam, as its documentation writes them.

documented   nothing is set
fast         fused Adam; the Dataset hands out whole batches (`__getitems__`), which saves the collating
kept         `fast`, and glibc keeps freed memory, by the environment that the runner sets (`run.py`)

Chunks are independent of each other and shuffled, the usual Dataset; a state carried over would cost the same.
torch.compile leaves nn.LSTM as it is, and bfloat16 is refused by nn.LSTM on processors without a unit for it.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from turns import Turns
from workload import LENGTH, LR, ROWS, Model, arguments


class ChunkDataset(Dataset):
    """Stretches of the text and what follows each of their characters."""

    def __init__(self, codes: list[int]) -> None:
        self.codes = torch.tensor(codes)

    def __len__(self) -> int:
        return (len(self.codes) - 1) // LENGTH

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = index * LENGTH
        return self.codes[start : start + LENGTH], self.codes[start + 1 : start + LENGTH + 1]


class BatchDataset(ChunkDataset):
    """The same, a batch at a time."""

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        places = torch.tensor(indices)[:, None] * LENGTH + torch.arange(LENGTH)
        return self.codes[places], self.codes[places + 1]


class Writer(nn.Module):
    """Embedding or one-hot, LSTM or GRU, linear."""

    def __init__(self, vocabulary: int, model: Model) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = nn.Embedding(vocabulary, model.embedding) if model.embedding else None
        kind = nn.LSTM if model.kind == "LSTM" else nn.GRU
        self.recurrent = kind(model.embedding or vocabulary, model.hidden_size, model.depth, batch_first=True)
        self.linear = nn.Linear(model.hidden_size, vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        x = F.one_hot(x, self.vocabulary).float() if self.embedding is None else self.embedding(x)
        output, _ = self.recurrent(x)
        return self.linear(output)


def main() -> None:
    chosen = arguments()
    fast = chosen.mode != "documented"
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    net = Writer(chosen.text.vocabulary, chosen.model)
    parameters = sum(p.numel() for p in net.parameters())
    if parameters != chosen.model.parameters(chosen.text.vocabulary):
        raise SystemExit(f"the network has {parameters} parameters")
    if fast:
        loader = DataLoader(
            BatchDataset(chosen.text.codes), batch_size=ROWS, shuffle=True, drop_last=True, collate_fn=lambda both: both
        )
    else:
        loader = DataLoader(ChunkDataset(chosen.text.codes), batch_size=ROWS, shuffle=True, drop_last=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=LR, fused=True if fast else None)
    turns = Turns(ROWS * LENGTH, {"versions": {"torch": torch.__version__}})
    for _ in itertools.count():
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(net(x).flatten(0, 1), y.flatten())
            loss.backward()
            optimizer.step()
            turns.step(loss.item())


if __name__ == "__main__":
    main()
