"""The key of a certificate is compared at each inspection, although its public key is computed once."""

from __future__ import annotations

from pathlib import Path

from tests.support.crypto.hierarchy import Hierarchy
from wire.pki.signature import new_key_pair
from wire.tls.identity import inspect_identity


def test_each_content_of_a_key_file_is_compared(pki: Hierarchy, tmp_path: Path) -> None:
    own, other = Path(pki.box.key).read_bytes(), new_key_pair()[0]
    file = tmp_path / "box.key"

    def problems() -> list[str]:
        now_s = Path(pki.box.certificate).stat().st_mtime
        inspection = inspect_identity(Path(pki.box.certificate), file, None, [], [], now_s)
        return [problem.message.partition(" ")[0] for problem in inspection.problems]

    for _ in range(2):
        for key, expected in ((own, []), (other, ["is"])):
            file.write_bytes(key)
            assert problems() == expected
        file.write_bytes(own[:200])
        assert problems() == ["has"]
