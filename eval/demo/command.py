"""The body of `bazaar demo`."""

import shutil
import sys
import tempfile
from pathlib import Path

from client.console import make_console
from eval.deliver import FAILED, INTERRUPTED, run_to_end
from eval.demo.run import Demo
from eval.demo.stage import Stage
from eval.demo.story import Verdict
from eval.interrupt import stop_on_signals
from eval.json_text import to_json


def demo_command(seconds: float, *, keep: bool, as_json: bool) -> int:
    """Tell the story (`as_json`: print it when it is over) and give the exit code. Raises CannotDo.

    keep: run on after a good verdict. The data of a bad one is evidence, and is left as it is.
    """
    console = make_console()
    console.quiet = as_json
    data_dir = Path(tempfile.mkdtemp(prefix="bazaar-demo-"))
    verdict = None
    try:
        demo = Demo(seconds, Stage(console), data_dir)
        run_to_end(_run(demo, keep=keep, as_json=as_json))
        verdict = demo.story.verdict
    finally:
        if verdict is None or verdict.passed:
            shutil.rmtree(data_dir, ignore_errors=True)
    return _exit_code(verdict, data_dir)


async def _run(demo: Demo, *, keep: bool, as_json: bool) -> Verdict:
    stop_on_signals()
    verdict = await demo.run()
    if as_json:
        sys.stdout.write(to_json(demo.story))
        sys.stdout.flush()
    if keep and verdict.passed:
        await demo.stay()
    return verdict


def _exit_code(verdict: Verdict | None, data_dir: Path) -> int:
    if verdict is None:
        return INTERRUPTED
    if verdict.passed:
        return 0
    make_console(stderr=True).print(f"its databases and logs are kept in {data_dir}", soft_wrap=True)
    return FAILED
