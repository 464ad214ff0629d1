"""Stand-ins for what a test must not reach."""

from pathlib import Path
from types import SimpleNamespace


class FakePip:
    """Stands in for `subprocess.run`: brings an archive, or fails as pip does."""

    def __init__(self, archive: bytes, *, error: str = "") -> None:
        self.archive, self.error, self.commands, self.wanted = archive, error, [], ""

    def __call__(self, command: list[str], **kwargs: object) -> SimpleNamespace:
        self.commands.append(command)
        self.wanted = Path(command[command.index("--requirement") + 1]).read_text()
        folder = Path(command[command.index("--dest") + 1])
        if not self.error:
            folder.mkdir()
            (folder / "archive").write_bytes(self.archive)
        return SimpleNamespace(returncode=bool(self.error), stdout="", stderr=self.error)
