"""The files of an audit log in memory."""

from __future__ import annotations

from hal.disk import DiskError, DiskErrorKind


class RotatedLog:
    """The files of an audit log in memory, as auditd writes and rotates them."""

    def __init__(self) -> None:
        self.files = {"audit.log": b""}
        self._lines: list[bytes] = []
        self._serial = 0

    @property
    def written(self) -> bytes:
        """All bytes that were ever written, including those of removed files."""
        return b"".join(self._lines)

    def names(self) -> list[str]:
        return sorted(self.files)

    def size(self, name: str) -> int:
        return len(self._content(name))

    def read(self, name: str, offset: int, length: int) -> bytes:
        content = self._content(name)
        assert offset >= 0 and offset + length <= len(content), "reads are within the file"
        return content[offset : offset + length]

    def _content(self, name: str) -> bytes:
        if name not in self.files:
            raise DiskError(DiskErrorKind.MISSING, name)
        return self.files[name]

    def line(self, length: int = 0) -> bytes:
        self._serial += 1
        return b"type=SYSCALL msg=audit(%d.000:%d): %s\n" % (self._serial, self._serial, b"x" * length)

    def write(self, content: bytes) -> None:
        self.files["audit.log"] += content
        self._lines.append(content)

    def rotate(self) -> None:
        for number in range(len(self.files) - 1, 0, -1):
            self.files[f"audit.log.{number + 1}"] = self.files.pop(f"audit.log.{number}")
        self.files["audit.log.1"], self.files["audit.log"] = self.files["audit.log"], b""

    def remove_oldest(self) -> None:
        del self.files[f"audit.log.{len(self.files) - 1}"]
