"""A loader whose workers, made by fork, call the module on what they load.

Prints whether the parent's centers are those of one process, and the workers' too.
"""

import torch

import centerloss
from tests.torch.batches import batch, module, same_bits

ROWS, ROW, CLASSES = 4100, 128, 900  # enough for two threads


class Losses(torch.utils.data.Dataset):
    """Each item is the loss of a batch, and the centers after it."""

    def __len__(self):
        return 4

    def __getitem__(self, item):
        x, y, _ = batch(ROWS, ROW, CLASSES, seed=item)
        loss_fn = module(ROW, CLASSES)
        return loss_fn(x, y).detach(), loss_fn.centers


class Rows(torch.utils.data.Dataset):
    """Each item is a row of a batch."""

    x, y, _ = batch(ROWS, ROW, CLASSES)

    def __len__(self):
        return 256

    def __getitem__(self, item):
        return self.x[item].detach(), self.y[item]


def load(data, **settings):
    loader = torch.utils.data.DataLoader
    return loader(data, num_workers=2, multiprocessing_context="fork", **settings)


def train(batches):
    """Centers after the batches of a loader, of which some may be still to come."""
    loss_fn = module(ROW, CLASSES)
    for x, y in batches:
        loss_fn(x.requires_grad_(), y).backward()
    return loss_fn.centers


if __name__ == "__main__":
    centerloss.set_num_threads(2)
    expected = [Losses()[item] for item in range(4)]
    in_workers = all(
        same_bits(loss, expected[item][0]) and same_bits(centers, expected[item][1])
        for item, (loss, centers) in enumerate(load(Losses(), batch_size=None))
    )
    alone = train(torch.utils.data.DataLoader(Rows(), batch_size=32))
    in_parent = same_bits(train(load(Rows(), batch_size=32)), alone)
    print(in_workers, in_parent)
