"""Damages bytes as an attacker would: more often at places that mean something than at random."""

import random
from collections.abc import Sequence

_NUMBERS = [
    *(b"0", b"-1", b"1e999", b"NaN", b"-Infinity", b"9223372036854775808", b"18446744073709551616", b"0x10", b"00"),
    *(value.to_bytes(size, "big") for size in (1, 2, 4) for value in (0, 1, (1 << 8 * size - 1), (1 << 8 * size) - 1)),
]


def mutate(chance: random.Random, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """One of ``seeds`` with a few changes; ``tokens`` are what means something in its language."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 8))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 1, 2, 4, 9, 30)))
        match chance.randrange(10):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1 if data:
                data[at % len(data)] = chance.randrange(256)
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = data[at:end] * chance.choice((1, 2, 50))
            case 4:
                data[at:at] = chance.choice(tokens)
            case 5:
                data[at:end] = chance.choice(tokens)
            case 6:
                data[at:end] = chance.choice(_NUMBERS)
            case 7:
                other = chance.choice(seeds)
                data[at:] = other[chance.randrange(len(other) + 1) :]
            case 8:
                del data[at:]
            case _:
                data[at:at] = chance.randbytes(chance.choice((1, 2, 5, 20)))
    return bytes(data)
