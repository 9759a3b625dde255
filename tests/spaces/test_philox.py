"""Numbers that every machine must agree on, for ever: golden hashes of the shared A and of the sketch's tables."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from learndock.spaces.philox import shared_A, sketch_tables, stream


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()


def test_shared_a_is_what_was_published() -> None:
    found = shared_A(0, 0, 16, 384)
    assert found.shape == (16, 384)
    assert found.dtype == np.float32
    assert [float(v).hex() for v in found[0, :3]] == [
        "-0x1.61ad8c0000000p-4",
        "-0x1.7646d60000000p-5",
        "-0x1.195b940000000p-4",
    ]
    assert float(found[15, 383]) == 0.0637567937374115
    assert sha256(found) == "06f79a547eff5a4a925548c20fae6fd00b1eac559128cbea29e2837d44f9d7e0"


def test_sketch_tables_are_what_was_published() -> None:
    bucket, sign = sketch_tables(1, 110_592, 4096)
    assert bucket.dtype == np.int32
    assert sign.dtype == np.int8
    assert bucket[:5].tolist() == [2147, 2151, 119, 1385, 547]
    assert sign[:8].tolist() == [1, 1, -1, 1, 1, -1, 1, -1]
    assert sha256(bucket) == "d672daa83e4109348adbc1e8d5bd69697b4fc82e89639c3d60951692010f36e5"
    assert sha256(sign) == "4b0b3e8e496e65a063740437c53e0c52863edf0eb9d2636a26328ac77cebf840"


def philox(key: tuple[int, int], block: int) -> list[int]:
    """Four numbers of Philox 4x64-10 as Salmon and others write it down (SC 2011), in plain integers."""
    whole = (1 << 64) - 1
    counter, (one, two) = [block, 0, 0, 0], key
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = [
            (right >> 64) ^ counter[1] ^ one,
            right & whole,
            (left >> 64) ^ counter[3] ^ two,
            left & whole,
        ]
        one, two = (one + 0x9E3779B97F4A7C15) & whole, (two + 0xBB67AE8584CAA73B) & whole
    return counter


@pytest.mark.parametrize("key", [(0, 0), (1, (1 << 32) + 1), (7, 3)])
def test_the_stream_is_philox_as_published(key: tuple[int, int]) -> None:
    # NumPy counts before it draws: its first block is number 1
    expected = [number for block in (1, 2, 3) for number in philox(key, block)]
    assert [int(v) for v in stream(*key, 12)] == expected


def test_a_longer_stream_begins_with_the_shorter() -> None:
    np.testing.assert_array_equal(stream(3, 4, 1000)[:10], stream(3, 4, 10))


def test_shared_a_follows_the_papers_law() -> None:
    bound = math.sqrt(3 / 384)
    many = np.stack([shared_A(seed, 0, 16, 384) for seed in range(200)]).astype(np.float64)
    assert bound * 0.9999 < np.abs(many).max() <= bound
    assert abs(many.mean()) < 4 * bound / math.sqrt(3 * many.size)
    assert many.var() == pytest.approx(1 / 384, rel=0.005)
    product = np.einsum("sij,skj->ik", many, many) / len(many)
    np.testing.assert_allclose(product, np.eye(16), atol=5 / math.sqrt(200 * 384))


def test_layers_and_seeds_give_other_numbers() -> None:
    some = [shared_A(seed, layer, 4, 32) for seed in (0, 1) for layer in (0, 1)]
    for i, one in enumerate(some):
        for other in some[:i]:
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.4


def test_tables_use_every_bucket_and_both_signs_evenly() -> None:
    bucket, sign = sketch_tables(1, 110_592, 4096)
    counts = np.bincount(bucket, minlength=4096)
    expected = 110_592 / 4096
    assert ((counts - expected) ** 2 / expected).sum() == pytest.approx(4095, abs=6 * math.sqrt(2 * 4095))
    assert abs(int(sign.sum())) < 4 * math.sqrt(110_592)
    assert set(np.unique(sign).tolist()) == {-1, 1}


def test_smaller_tables_are_the_larger_folded() -> None:
    bucket, sign = sketch_tables(1, 5000, 4096)
    smaller, same = sketch_tables(1, 5000, 128)
    np.testing.assert_array_equal(bucket % 128, smaller)
    np.testing.assert_array_equal(sign, same)


@pytest.mark.parametrize("size", [0, -4, 3, 4095])
def test_a_sketch_has_a_power_of_two_of_numbers(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        sketch_tables(1, 10, size)
