"""Calls on all ranks: agreement, the exchanges, and what happens on errors."""

from __future__ import annotations  # functions are defined in each call

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import _folders, _settings
from .blocks import Blocks, Route, Rows, find_route
from .call import Call, Received, pack_rows
from .engine import Engine, Words
from .headers import (
    DONE,
    GOOD,
    INCOMPLETE,
    KINDS,
    REFUSED,
    TYPES,
    Header,
    check_headers,
    hashes,
    ranks_where,
)
from .messages import cut

_Value = TypeVar("_Value")

MAX_ROWS = 2**31  # of a batch, and of a shard: they are numbered in half a word


def check_over(over: Any) -> str:
    """Return whose rows the loss is of, "rank" or "all"; raise if it is neither."""
    if over not in ("rank", "all"):
        error = ValueError if isinstance(over, str) else TypeError
        raise error(f"over is {over!r}, expected 'rank' or 'all'")
    return str(over)


def check_init(init: Any) -> None:
    """Raise unless it names how centers start; a function has its own checks."""
    choices = "a function of the first class and the one after the last"
    _settings.check_init(init, choices)


def total_loss(
    total: float, weight: float, reduction: str, loss_weight: float
) -> float:
    """Return the loss (Eq. 2), given the sum of its terms and W."""
    if reduction == "sum":
        return loss_weight * total
    return loss_weight / weight * total if weight > 0 else 0.0


class Shard(Protocol):
    """The centers of the classes that a rank owns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        ...

    def read(self, labels: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Store the centers with these labels."""

    def piece(self, first: int, last: int) -> NDArray[Any]:
        """Return the centers first..last-1."""
        ...

    def store(self, first: int, rows: NDArray[Any]) -> None:
        """Set the centers from `first` on."""


class ArrayShard:
    """A shard in an array."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    def read(self, labels: NDArray[np.int64], out: NDArray[Any]) -> None:
        # The labels are in range; only this mode stores them without a copy.
        np.take(self._array, labels, axis=0, out=out, mode="clip")

    def piece(self, first: int, last: int) -> NDArray[Any]:
        return self._array[first:last]

    def store(self, first: int, rows: NDArray[Any]) -> None:
        self._array[first : first + len(rows)] = rows


class Shards:
    """Calls on all ranks.

    Parameters
    ----------
    shape : tuple of int
        (K, D).
    find_engine : callable
        Returns the engine, in each call.
    """

    def __init__(
        self, shape: tuple[int, int], find_engine: Callable[[], Engine]
    ) -> None:
        engine = find_engine()
        self.shape = shape
        self._find_engine = find_engine
        self._blocks = Blocks(shape[0], engine.size)
        self._place = engine.rank, engine.size
        self.first, self.last = self._blocks.of(engine.rank)
        if self._blocks.rows > MAX_ROWS:
            raise ValueError(
                f"num_classes is {shape[0]}, expected at most 2**31 per rank"
            )
        self.incomplete = False  # has a change of the shard begun, but not ended?

    @property
    def engine(self) -> Engine:
        """The engine of this call; raise if the process now has another rank."""
        engine = self._find_engine()
        if (engine.rank, engine.size) != self._place:
            rank, size = self._place
            raise RuntimeError(
                f"this is the shard of rank {rank} of {size}, but the process is rank "
                f"{engine.rank} of {engine.size} now: save() on the old ranks, and "
                "load() on the new ones"
            )
        return engine

    def loss(
        self,
        prepare: Callable[[], tuple[Rows, Mapping[str, Any]]],
        shard: Shard,
        compute: Callable[
            [NDArray[np.int64], NDArray[Any], float],
            tuple[_Value, NDArray[np.float64] | None],
        ],
        move: Callable[[Received], None] | None,
        *,
        whole: bool,
    ) -> tuple[_Value, float, float]:
        """Return a value for this rank's rows; the sum of terms, and W, of all ranks.

        Parameters
        ----------
        prepare : callable
            Checks and returns the batch and the settings of this rank.
        shard : Shard
        compute : callable
            Its arguments are the position of each row's center, the centers, and the
            weight W of all rows. It returns the value and, with `whole`, the terms.
        move : callable, optional
            Updates the shard with the rows that it gets.
        whole : bool
            Whether there is a sum of terms of all ranks.
        """
        call = self._begin("loss" if move is None else "step", prepare)
        self.incomplete = move is not None
        centers, weight = call.fetch(shard.dtype, shard.read, weigh=whole)
        wait, error, value = None, None, None
        if move is not None and not whole:  # under way while the loss is computed
            wait = call.start(send_rows=True, terms=None)
        # After the headers, a rank takes part in all exchanges whatever happens to it.
        try:
            value, terms = compute(call.positions, centers, weight)
        except Exception as found:
            error, terms = found, np.full(len(call.positions), np.nan)
        del centers  # so that the rows can take their memory
        if whole:
            wait = call.start(send_rows=move is not None, terms=terms)
        received, total = (None, np.nan) if wait is None else wait()
        if move is not None and received is not None:
            move(received)
        self.incomplete = False
        if error is not None:
            raise error
        assert value is not None
        return value, total, weight

    def update(
        self,
        kind: str,
        prepare: Callable[[], tuple[Rows, Mapping[str, Any]]],
        move: Callable[[Received], None],
    ) -> bool:
        """Update the shard with the rows of all ranks; return `Call.is_last`."""
        call = self._begin(kind, prepare)
        self.incomplete = True
        received, _ = call.start(send_rows=True, terms=None)()
        assert received is not None
        move(received)
        self.incomplete = False
        return call.is_last

    def save(
        self,
        folder: str | os.PathLike[str],
        shard: Shard,
        check: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Save the centers of all ranks, and the settings that `check` returns."""
        settings: dict[str, Any] = {}

        def prepare() -> tuple[list[Header], Mapping[str, Any]]:
            settings.update(check())
            header = self._header("save", settings, shard.dtype.name)
            return [header._replace(rows=_folders.new_token())] * engine.size, settings

        engine = self.engine
        token = self._agree("save", prepare)[0].rows
        part: _folders.Part | None = None

        def write() -> None:
            nonlocal part
            part = self._write_part(folder, token, shard)

        def commit() -> None:
            if engine.rank == 0:
                _check_shared(folder, parts)
                _folders.write_index(folder, parts, self.shape, shard.dtype, settings)

        try:
            self._together(write)
        except Exception:
            _folders.remove_part(folder, part)
            raise
        # From here on rank 0 may replace the index, which then names this part. If it
        # does not, the next save removes the part.
        parts = self._gather_parts(part, token)
        self._together(commit)

    def _write_part(
        self, folder: str | os.PathLike[str], token: int, shard: Shard
    ) -> _folders.Part | None:
        rank, size = self._place
        first, last = self.first, self.last
        return _folders.write_part(
            folder,
            token,
            rank,
            size,
            first,
            last,
            lambda start, stop: shard.piece(start - first, stop - first),
        )

    def _gather_parts(
        self, part: _folders.Part | None, token: int
    ) -> list[_folders.Part]:
        """Return the parts of all ranks on rank 0, where their checksums are sent."""
        rank, size = self._place
        ranges = [self._blocks.of(other) for other in range(size)]
        counts = [-(-(last - first) // _folders.BLOCK_ROWS) for first, last in ranges]
        checksums = np.array(part.checksums if part else [], np.int64)
        received = counts if rank == 0 else [0] * size
        sent = [len(checksums)] + [0] * (size - 1)
        words = self.engine.start(checksums, sent, received)()
        return [
            _folders.Part(
                _folders.part_name(token, other, size), first, last, of_rank.tolist()
            )
            for other, ((first, last), of_rank) in enumerate(
                zip(ranges, cut(words, received), strict=True)
            )
            if first < last
        ]

    def load(self, folder: str | os.PathLike[str], shard: Shard) -> dict[str, Any]:
        """Set the centers of all ranks to saved ones; return the saved settings."""
        found: _folders.Folder | None = None

        def prepare() -> tuple[list[Header], Mapping[str, Any]]:
            nonlocal found
            found = _folders.read_index(folder)
            if found.shape != self.shape:
                raise ValueError(
                    f"{os.fsdecode(folder)} has centers of shape {found.shape}, "
                    f"expected {self.shape}"
                )
            if found.dtype != shard.dtype:
                raise ValueError(
                    f"{os.fsdecode(folder)} has centers of dtype {found.dtype}, "
                    f"expected {shard.dtype}"
                )
            _folders.read_rows(found, self.first, self.last, None)
            header = self._header("load", found.settings, shard.dtype.name)
            return [header] * self._place[1], found.settings

        self._agree("load", prepare)
        assert found is not None
        whole = found
        self.incomplete = True
        read = _folders.read_rows
        self._together(
            lambda: read(
                whole,
                self.first,
                self.last,
                lambda first, rows: shard.store(first - self.first, rows),
            )
        )
        self.incomplete = False
        return whole.settings

    def _begin(
        self, kind: str, prepare: Callable[[], tuple[Rows, Mapping[str, Any]]]
    ) -> Call:
        prepared: list[tuple[Rows, Route, Words | None]] = []

        def own_headers() -> tuple[list[Header], Mapping[str, Any]]:
            rows, settings = prepare()
            if len(rows.labels) > MAX_ROWS:
                raise ValueError(
                    f"the batch has {len(rows.labels)} rows, expected at most 2**31"
                )
            route = find_route(rows.labels, self._blocks)
            # Here, since a lack of memory is an error on all ranks until they agree.
            packed = None if kind == "loss" else pack_rows(rows, route)
            prepared.append((rows, route, packed))
            header = self._header(kind, settings, rows.type)
            header = header._replace(
                state=DONE if rows.done and header.state == GOOD else header.state,
                weighted=rows.weights is not None,
                rows=len(rows.labels),
                counted=len(route.order),
            )
            return [
                header._replace(classes_asked=asked, rows_sent=sent)
                for asked, sent in zip(
                    route.asked_counts, route.row_counts, strict=True
                )
            ], settings

        headers = self._agree(kind, own_headers)
        return Call(self.engine, self.shape[1], *prepared[0], headers)

    def _header(self, kind: str, settings: Mapping[str, Any], type_: str) -> Header:
        return Header(
            INCOMPLETE if self.incomplete else GOOD,
            KINDS.index(kind),
            TYPES.index(type_),
            0,
            *self.shape,
            *hashes(settings),
            *(0, 0, 0, 0),
        )

    def _agree(
        self,
        kind: str,
        prepare: Callable[[], tuple[list[Header], Mapping[str, Any]]],
    ) -> list[Header]:
        """Return the headers of all ranks; raise on all of them unless they agree.

        `prepare` returns those of this rank, for each rank, and its settings.
        """
        engine = self.engine
        names: list[str] = []
        error = None
        try:
            own, settings = prepare()
            names = list(settings)
        except Exception as found:
            error = found
            refusal = self._header(kind, {}, TYPES[0])._replace(state=REFUSED)
            own = [refusal] * engine.size
        words = engine.exchange(np.array([h.words() for h in own], np.int64))
        if error is not None:
            raise error
        headers = [Header.from_words(of_rank) for of_rank in words.tolist()]
        check_headers(headers, names)
        return headers

    def _together(self, action: Callable[[], _Value]) -> _Value:
        """Do something on all ranks; if it fails on one, raise an error on all."""
        error = None
        values: list[_Value] = []
        try:
            values.append(action())
        except Exception as found:
            error = found
        header = self._header("report", {}, TYPES[0])
        header = header._replace(state=REFUSED if error else GOOD)
        engine = self.engine
        words = engine.exchange(np.array([header.words()] * engine.size, np.int64))
        if error is not None:
            raise error
        states = [Header.from_words(of_rank).state for of_rank in words.tolist()]
        failed = [state == REFUSED for state in states]
        if any(failed):
            raise RuntimeError(
                f"saving or loading failed on {ranks_where(failed)}, where the error "
                "says why"
            )
        return values[0]


def _check_shared(
    folder: str | os.PathLike[str], parts: Sequence[_folders.Part]
) -> None:
    """Raise unless this rank can reach the files of all ranks."""
    for part in parts:
        if not os.path.exists(os.path.join(os.fsdecode(folder), part.file)):
            raise FileNotFoundError(
                f"{os.fsdecode(folder)} has no {part.file}, which another rank wrote: "
                "save to a folder that all ranks share"
            )
