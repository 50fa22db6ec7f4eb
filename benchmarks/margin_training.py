"""Training for `benchmarks.margin`, and what is measured afterwards."""

import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

import centerloss
from centerloss.sklearn import CenterClassifier
from centerloss.torch import CenterLoss

from .margin import (
    ACCURACY,
    AUC,
    DISTANCE,
    MAP,
    NEAREST,
    RATES,
    SECONDS,
    Images,
    Method,
    Settings,
    Task,
)

CHANNELS = (32, 64, 128)
SLOPE = 0.25  # initial slope of PReLU
WARM_UP = 0.2  # of the steps
DIRECT = "donot_use_mm_for_euclid_dist"  # distances of differences

Array = NDArray[Any]


class Network(nn.Module):
    """Convolutions, a linear layer to the features, and a linear classifier."""

    def __init__(self, name: str, height: int, width: int, settings: Settings) -> None:
        super().__init__()
        if name == "resnet":
            self.features = resnet(settings.things, settings.dim)
        else:
            self.features = lenet(height, width, settings.dim)
        self.classifier = nn.Linear(settings.dim, settings.seen)


def lenet(height: int, width: int, dim: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise((1, *CHANNELS)):
        for channels in (before, after):
            layers += [nn.Conv2d(channels, after, 3, padding=1), nn.PReLU(after)]
        layers.append(nn.MaxPool2d(2))
    pooled = CHANNELS[-1] * (height // 8) * (width // 8)
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(pooled, dim))
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, SLOPE)
            nn.init.zeros_(layer.bias)
    return network


def resnet(things: int, dim: int) -> nn.Sequential:
    first, *_ = CHANNELS
    return nn.Sequential(
        *(nn.Conv2d(1, first, 3, padding=1, bias=False), nn.BatchNorm2d(first)),
        nn.ReLU(),
        *(Block(before, after) for before, after in pairwise((first, *CHANNELS))),
        nn.AdaptiveAvgPool2d((1, things)),
        nn.Flatten(),
        nn.Linear(things * CHANNELS[-1], dim),
    )


class Block(nn.Module):
    """Two convolutions beside a shortcut; the image is halved."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(before, after, 1, stride=2, bias=False), nn.BatchNorm2d(after)
        )

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.inner(images) + self.shortcut(images))


def measure(
    method: Method, task: Task, settings: Settings, seed: int, device: str
) -> dict[str, float | None]:
    """Train on one thread; return the metrics."""
    torch.set_num_threads(1)
    centerloss.set_num_threads(1)
    start = time.perf_counter()
    network = train(method, task.train, settings, seed, device)
    seconds = time.perf_counter() - start
    return evaluate(network, method, task) | {SECONDS: seconds}


# --- training -------------------------------------------------------------------------


def train(
    method: Method, images: Images, settings: Settings, seed: int, device: str = "cpu"
) -> Network:
    torch.manual_seed(seed)
    pixels = torch.from_numpy(images.pixels).to(device)
    labels = torch.from_numpy(images.labels).to(device)
    network = Network(settings.network, *pixels.shape[2:], settings)
    network.to(device, memory_format=torch.channels_last)  # faster
    loss_fn = CenterLoss(settings.seen, settings.dim, init="zeros").to(device)
    if method.term != "none":
        loss_fn.init_centers(_features(network, pixels), labels)
    optimizer = torch.optim.SGD(
        network.parameters(), RATES[settings.network], momentum=0.9, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    for step, rows in enumerate(batches(len(labels), settings, seed).to(device)):
        features = network.features(pixels[rows])
        loss = features.new_zeros(())
        if method.softmax:
            loss = functional.cross_entropy(network.classifier(features), labels[rows])
        if method.term != "none":
            warm = min(1.0, (step + 1) / (WARM_UP * settings.steps))
            added = center_term(method, features, labels[rows], loss_fn)
            loss = loss + warm * method.weight * added
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        schedule.step()
    return network


def batches(rows: int, settings: Settings, seed: int) -> Tensor:
    """Return the rows of each batch; all rows once before any row again."""
    rng = np.random.default_rng(seed)
    needed = settings.steps * settings.batch
    epochs = [rng.permutation(rows) for _ in range(-(-needed // rows))]
    order = torch.from_numpy(np.concatenate(epochs)[:needed])
    return order.view(settings.steps, settings.batch)


def center_term(
    method: Method, features: Tensor, labels: Tensor, loss_fn: CenterLoss
) -> Tensor:
    """Return center loss, plus the method's term; move the centers."""
    centers = loss_fn.centers.clone()
    pull: Tensor = loss_fn(features, labels)
    if method.term == "push":
        return pull + push(features, labels, centers, method.margin)
    if method.term == "triplet":
        return pull + triplet(features, labels, centers, method.margin)
    return pull


def push(features: Tensor, labels: Tensor, centers: Tensor, margin: float) -> Tensor:
    """Return 1/2 sum of max(0, margin - r)^2 over the other classes of the batch.

    r is the distance to a center; the result is the mean over the rows.
    """
    others = torch.zeros(len(centers), dtype=torch.bool, device=labels.device)
    others = others.index_fill(0, labels, True).repeat(len(labels), 1)
    others.scatter_(1, labels[:, None], False)
    distances = torch.cdist(features, centers, compute_mode=DIRECT)
    missing = (margin - distances).clamp(min=0)
    return 0.5 * (missing.square() * others).sum(1).mean()


def triplet(features: Tensor, labels: Tensor, centers: Tensor, margin: float) -> Tensor:
    """Return max(0, r of the own center + margin - r of the nearest other center)."""
    distances = torch.cdist(features, centers, compute_mode=DIRECT)
    own = labels[:, None]
    nearest = distances.scatter(1, own, torch.inf).amin(1)
    return (distances.gather(1, own)[:, 0] + margin - nearest).clamp(min=0).mean()


# --- metrics --------------------------------------------------------------------------


def evaluate(network: Network, method: Method, task: Task) -> dict[str, float | None]:
    """Return all metrics but the time."""
    train, seen, unseen = (
        _features(network, torch.from_numpy(images.pixels)).cpu()
        for images in (task.train, task.seen, task.unseen)
    )
    means = CenterClassifier().fit(train.numpy(), task.train.labels)
    distances = pdist(unseen.double().numpy())
    return {
        ACCURACY: _accuracy(network, seen, task.seen) if method.softmax else None,
        NEAREST: float(means.score(seen.numpy(), task.seen.labels)),
        MAP: map_at_r(distances, task.unseen.labels),
        AUC: same_or_different(distances, task.unseen.labels),
        DISTANCE: separation(seen.double().numpy(), task.seen.labels),
    }


@torch.no_grad()
def _features(network: Network, pixels: Tensor) -> Tensor:
    network.eval()
    device = network.classifier.weight.device
    parts = [network.features(part.to(device)) for part in pixels.split(500)]
    network.train()
    return torch.cat(parts)


@torch.no_grad()
def _accuracy(network: Network, features: Tensor, images: Images) -> float:
    found = network.classifier.cpu()(features).argmax(1).numpy()
    return float(np.mean(found == images.labels))


def map_at_r(distances: Array, labels: Array) -> float:
    """Return the mean over all rows of the average precision at R.

    R is the number of other rows of the row's class. Of its R nearest other rows, those
    of its class count with the precision up to them; the sum is divided by R.
    """
    square = squareform(distances)
    np.fill_diagonal(square, np.inf)
    order = square.argsort(axis=1, kind="stable")
    hits = labels[order] == labels[:, np.newaxis]
    ranks = np.arange(1, len(labels) + 1)
    others = np.bincount(labels)[labels] - 1
    hits &= ranks <= others[:, np.newaxis]
    precision = hits.cumsum(axis=1) / ranks
    return float(np.mean((precision * hits).sum(axis=1) / others))


def same_or_different(distances: Array, labels: Array) -> float:
    """Return how often two rows of a class are nearer than two rows of two classes."""
    first, second = np.triu_indices(len(labels), 1)
    return float(roc_auc_score(labels[first] == labels[second], -distances))


def separation(features: Array, labels: Array) -> float:
    """Return the smallest distance of two class means, over the radius of the classes.

    The radius is the root mean square distance of a row to its class mean.
    """
    classes = range(labels.max() + 1)
    means = np.stack([features[labels == label].mean(axis=0) for label in classes])
    squares = ((features - means[labels]) ** 2).sum(axis=1)
    return float(pdist(means).min() / np.sqrt(squares.mean()))
