"""A checkout of this repository whose package is measured: its name, and that it is what is served.

An environment has one locktender installed, or a reference to one.  PYTHONPATH goes before it; and
because a measurement of one commit that was taken for another's is worse than none, a server is
asked which file it has imported.
"""

import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

__all__ = ["HERE", "Checkout"]


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with the package in `src`."""

    folder: Path

    @property
    def source(self) -> Path:
        """Return what goes into PYTHONPATH.  Raises: RuntimeError if the package is not there."""
        source = self.folder.resolve() / "src"
        if not (source / "locktender" / "__init__.py").is_file():
            message = f"There is no src/locktender in {self.folder}."
            raise RuntimeError(message)
        return source

    def name(self) -> str:
        """Return its commit, as git or a file COMMIT says it, and a digest of its source."""
        noted = self.folder / "COMMIT"
        commit = noted.read_text().strip() if noted.is_file() else self._git_says()
        digest = sha256()
        for path in sorted(self.source.rglob("*.py")):
            digest.update(path.read_bytes())
        return f"{commit or 'no commit known'}, source {digest.hexdigest()[:8]}"

    def require_served(self, file: str) -> None:
        """Raises: RuntimeError unless `file`, of a package that is served, is in this checkout."""
        if not Path(file).resolve().is_relative_to(self.source):
            message = f"What is served lies at {file}, and not in {self.source}."
            raise RuntimeError(message)

    def _git_says(self) -> str:
        if not (self.folder / ".git").exists():  # git would answer for a folder above
            return ""
        try:
            commit = self._git("rev-parse", "--short", "HEAD")
            changes = self._git("status", "--porcelain", "--", "src")
        except OSError:
            return ""
        return f"{commit} and changes in src" if changes else commit

    def _git(self, *words: str) -> str:
        command = ["git", "-C", str(self.folder), *words]
        answer = subprocess.run(command, capture_output=True, check=False, timeout=30)
        return answer.stdout.decode().strip()


HERE = Checkout(Path(__file__).parents[1])
