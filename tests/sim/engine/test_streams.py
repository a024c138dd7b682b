"""Random streams are reproducible and independent of each other."""

from sim.engine.streams import branch, stream


def test_a_stream_gives_the_same_numbers_in_every_process() -> None:
    # a recorded run must replay on any machine, with any PYTHONHASHSEED
    assert stream(1, "instrument/CH-1").getrandbits(64) == 7968556933733896528


def test_a_stream_depends_on_its_seed_and_its_name() -> None:
    firsts = {stream(seed, name).getrandbits(64) for seed in (0, 1, 12) for name in ("a", "b", "2/a", "")}
    assert len(firsts) == 12


def test_a_branch_does_not_depend_on_its_siblings() -> None:
    one, other = stream(1, "x"), stream(1, "x")
    alone = branch(one)
    beside = branch(other)
    branch(other).random()
    assert [alone.random() for _ in range(5)] == [beside.random() for _ in range(5)]
    assert branch(one).random() != alone.random()
