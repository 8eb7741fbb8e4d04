"""What every check shares: the same question to the model server and through the batcher, many at once."""

import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

# Clients at once: while one batch runs, the others wait and can share the next.
CLIENTS = 32
# Differences that are shown of one claim.
SHOWN = 3


class Checker:
    """Collects claims and prints them; `exit_code` says whether all held."""

    def __init__(self, *packages: str) -> None:
        self.failed = 0
        if packages:
            print("  client:", ", ".join(f"{package} {version(package)}" for package in packages), flush=True)

    def expect(self, holds: bool, claim: str) -> None:
        print(f"  {'ok    ' if holds else 'FAILED'} {claim}", flush=True)
        self.failed += not holds

    def same(self, claim: str, asked: Sequence[Any], direct: Callable[[Any], Any], through: Callable[[Any], Any]) -> None:
        """Whether each of `asked` gets the same answer (or the same error) from both, asked at once."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            wanted = list(pool.map(lambda question: answer(direct, question), asked))
            got = list(pool.map(lambda question: answer(through, question), asked))
        different = [triple for triple in zip(asked, wanted, got, strict=True) if triple[1] != triple[2]]
        self.expect(not different, f"{claim}: {len(asked)} asked, {len(different)} answered differently")
        for question, alone, sluice in different[:SHOWN]:
            print(f"         {question}\n           direct:  {alone}\n           through: {sluice}")

    def exit_code(self) -> int:
        return 1 if self.failed else 0


def answer(ask: Callable[[Any], Any], question: Any) -> Any:
    """What is comparable of the answer; an error by what it says."""
    try:
        return ask(question)
    except Exception as error:  # noqa: BLE001: whatever a client raises is its user's answer
        return f"{type(error).__name__}: {error}"


def main(check: Callable[..., int]) -> None:
    try:
        sys.exit(check(*sys.argv[1:]))
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        sys.exit(1)
