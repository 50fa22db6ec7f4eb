"""The headers of a call: what the ranks have to agree on, and the sizes of the rest."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

KINDS = ("loss", "step", "update", "init_centers", "save", "load", "report")
TYPES = ("float32", "float64", "float16", "bfloat16")
GOOD, DONE, REFUSED, INCOMPLETE = range(4)

# Calls that are allowed while centers are incomplete; "load" repairs them.
_REPAIRS = ("load", "report")


class Header(NamedTuple):
    """What a rank tells another one at the start of a call, in nine words."""

    state: int  # GOOD, DONE (no call of this series follows), REFUSED or INCOMPLETE
    kind: int  # of KINDS
    type: int  # of TYPES
    weighted: int  # 1 if rows have weights
    classes: int  # K
    features: int  # D
    settings: int  # a hash of all
    each_setting: int  # a byte of hash for each
    rows: int  # of the batch
    counted: int  # rows that are not ignored
    classes_asked: int  # of the other rank
    rows_sent: int  # to the other rank

    def words(self) -> list[int]:
        state = self.state << 24 | self.kind << 16 | self.type << 8 | self.weighted
        return [state, *self[4:]]

    @classmethod
    def from_words(cls, words: Sequence[int]) -> "Header":
        state, *rest = words
        return cls(*state.to_bytes(4, "big"), *rest)


def hashes(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Return `Header.settings` and `Header.each_setting`."""
    return _hashes(tuple(settings.items()))


@functools.lru_cache(maxsize=64)
def _hashes(settings: tuple[tuple[str, Any], ...]) -> tuple[int, int]:
    each = b"".join(_hash(setting, 1) for setting in settings)
    return _as_word(_hash(settings, 8)), _as_word(each)


def _hash(value: object, size: int) -> bytes:
    return hashlib.blake2b(repr(value).encode(), digest_size=size).digest()


def _as_word(given: bytes) -> int:
    return int.from_bytes(given.rjust(8, b"\0"), "big", signed=True)


def check_headers(headers: Sequence[Header], names: Sequence[str]) -> None:
    """Raise unless all ranks accept the call and agree; `names` are the settings'."""
    _check_states(headers)
    _check_batches(headers)
    _check_settings(headers, names)


def ranks_where(condition: Sequence[bool]) -> str:
    """Return "ranks [1, 2] of 4"."""
    ranks = [rank for rank, holds in enumerate(condition) if holds]
    return f"ranks {ranks} of {len(condition)}"


def _check_states(headers: Sequence[Header]) -> None:
    refused = [header.state == REFUSED for header in headers]
    if any(refused):
        raise ValueError(
            f"the call is refused on {ranks_where(refused)}, where the error says why"
        )
    kinds = [KINDS[header.kind] for header in headers]
    if len(set(kinds)) > 1:
        raise ValueError(f"the ranks call {kinds}, expected the same on all")
    incomplete = [header.state == INCOMPLETE for header in headers]
    if any(incomplete) and kinds[0] not in _REPAIRS:
        raise RuntimeError(
            f"the last change of the centers is incomplete on {ranks_where(incomplete)}"
            ": load a checkpoint on all ranks"
        )


def _check_batches(headers: Sequence[Header]) -> None:
    shapes = [(header.classes, header.features) for header in headers]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"(num_classes, feat_dim) is {shapes} on the ranks, expected the same on "
            "all"
        )
    types = [TYPES[header.type] for header in headers]
    if len(set(types)) > 1:
        raise ValueError(f"the batches have dtypes {types} on the ranks, expected one")
    weighted = [header.weighted == 1 for header in headers]
    if any(weighted) and not all(weighted):
        raise ValueError(
            f"sample_weight is given on {ranks_where(weighted)}, expected on all or "
            "none"
        )


def _check_settings(headers: Sequence[Header], names: Sequence[str]) -> None:
    if len({(header.settings, header.each_setting) for header in headers}) == 1:
        return
    different = 0
    for header in headers:
        different |= header.each_setting ^ headers[0].each_setting
    each = different.to_bytes(8, "big", signed=True)[-len(names) :]
    found = [name for name, byte in zip(names, each, strict=True) if byte]
    raise ValueError(
        f"the ranks have different settings: {', '.join(found or names)}; expected the "
        "same on all"
    )
