"""The body of `bazaar demo`."""

import sys

from client.console import make_console
from eval.deliver import run_to_end
from eval.demo.run import Demo
from eval.demo.stage import Stage
from eval.demo.story import Story
from eval.interrupt import stop_on_signals
from eval.json_text import to_json

FAILED = 1
INTERRUPTED = 130


def demo_command(seconds: float, *, as_json: bool) -> int:
    """Tell the story (`as_json`: print it when it is over) and give the exit code. Raises CannotDo."""
    console = make_console()
    console.quiet = as_json
    demo = Demo(seconds, Stage(console))
    story = run_to_end(_run(demo))
    if story is None:
        return INTERRUPTED
    if as_json:
        sys.stdout.write(to_json(story))
    if demo.kept is not None:
        make_console(stderr=True).print(f"its databases and logs are kept in {demo.kept}", soft_wrap=True)
    return 0 if story.verdict is not None and story.verdict.passed else FAILED


async def _run(demo: Demo) -> Story:
    stop_on_signals()
    return await demo.run()
